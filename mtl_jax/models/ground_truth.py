"""Ground truth and random keys of a batch, prepared as all families require."""

import jax
import jax.numpy as jnp
from jaxtyping import Int

from mtl_jax.types import Array, Batch


def clean(batch: Batch) -> Batch:
    """Set the slots without an instance to 0. Labels in them count as unknown."""
    gt = batch.gt
    valid = gt.valid & batch.valid[:, None]
    attributes = {
        name: label._replace(known=label.known & valid[..., None])
        for name, label in gt.attributes.items()
    }
    gt = gt._replace(
        boxes=jnp.where(valid[..., None], gt.boxes, 0.0),
        classes=jnp.where(valid, gt.classes, 0),
        valid=valid,
        mask_valid=gt.mask_valid & valid,
        ignored=jnp.where(batch.valid[:, None, None], gt.ignored, 0.0),
        attributes=attributes,
    )
    return batch._replace(gt=gt)


def places(batch: Batch) -> Int[Array, "B"]:
    """Return the rows' positions in the batch of the training step."""
    return jnp.arange(len(batch.valid)) if batch.places is None else batch.places


def image_keys(key: Array, places: Int[Array, "B"]) -> Array:
    """Derive a key for each image from its position; rows added to a batch do not change others."""
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(places)


def dropout_key(key: Array, batch: Batch) -> Array:
    """Derive the key of a batch's dropout; each part of a batch has a different key."""
    return jax.random.fold_in(key, places(batch)[0])
