"""What every family does with a batch's ground truth."""

import jax
import jax.numpy as jnp
from jaxtyping import Int

from mtl_jax.types import Array, Batch


def clean(batch: Batch) -> Batch:
    """Zero what stands in slots without ground truth, so that it reaches no arithmetic."""
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
        crowd=gt.crowd & valid,
        mask_valid=gt.mask_valid & valid,
        attributes=attributes,
    )
    return batch._replace(gt=gt)


def image_keys(key: Array, places: Int[Array, "B"]) -> Array:
    """Give each image a key by its place in the batch: rows that fill it up change no other's."""
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(places)
