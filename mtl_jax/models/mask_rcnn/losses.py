"""Classification and box losses of anchors and regions.

Source: Ren et al., Faster R-CNN, 2015; normalised as in torchvision.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Bool, Float

from mtl_jax import losses
from mtl_jax.attributes.base import Attribute
from mtl_jax.config.options.mask_rcnn import MaskRCNNOptions
from mtl_jax.models.mask_rcnn.targets import AnchorTargets, RegionTargets
from mtl_jax.types import Array, MaskedSum, Term

NEVER = -1e9  # logit of a class that has no part in the loss


def rpn_losses(
    logits: Float[Array, "B N"],
    deltas: Float[Array, "B N 4"],
    targets: AnchorTargets,
    beta: float,
) -> dict[str, Term]:
    """Return the objectness and box terms of the sampled anchors; `beta` is smooth L1's."""
    index, valid, positive = targets.samples
    sampled_logits = jnp.take_along_axis(logits, index, 1)
    sampled_deltas = jnp.take_along_axis(deltas, index[..., None], 1)
    objectness = losses.binary_cross_entropy(sampled_logits, positive.astype(jnp.float32))
    return {
        "rpn_objectness": (losses.masked_sum(objectness, valid),),
        "rpn_box": (_box_regression(sampled_deltas, targets.deltas, positive, valid, beta),),
    }


def box_losses(
    logits: Float[Array, "B R K"],
    deltas: Float[Array, "B R K 4"],
    regions: RegionTargets,
    beta: float,
    labelled: Bool[Array, "B K"] | None = None,
) -> dict[str, Term]:
    """Return the class and box terms of the sampled regions; `beta` is smooth L1's.

    The class loss of an image leaves out the logits of classes that are not `labelled` in it.
    """
    if labelled is not None:
        logits = jnp.where(labelled[:, None], logits, NEVER)
    of_class = jnp.take_along_axis(deltas, regions.classes[..., None, None], 2)[:, :, 0]
    of_boxes = _box_regression(of_class, regions.deltas, regions.positive, regions.valid, beta)
    each = losses.cross_entropy(logits, regions.classes)
    return {
        "box_class": (losses.masked_sum(each, regions.valid),),
        "box_regression": (of_boxes,),
    }


def _box_regression(
    deltas: Float[Array, "B R 4"],
    targets: Float[Array, "B R 4"],
    positive: Bool[Array, "B R"],
    valid: Bool[Array, "B R"],
    beta: float,
) -> MaskedSum:
    """Sum the four coordinates' losses of the positives and divide by ALL samples, as torchvision
    does.
    """
    each = losses.smooth_l1(deltas, targets, beta).sum(-1)
    return losses.masked_sum(jnp.where(positive, each, 0.0), valid)


def loss_weights(options: MaskRCNNOptions, attributes: Sequence[Attribute]) -> dict[str, float]:
    """Return the weight of each loss term by its name."""
    weights = {f"attribute/{attribute.name}": attribute.weight for attribute in attributes}
    others = dict(vars(options.loss_weights))
    if not options.mask_head.enabled:
        del others["mask"]
    return {**others, **weights}
