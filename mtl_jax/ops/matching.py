"""Match candidate boxes with ground-truth objects.

Source: Ren et al., Faster R-CNN, 2015, section 3.1.2.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from mtl_jax.types import Array


class Matches(NamedTuple):
    """The object of each candidate, and whether the candidate is positive, negative or neither."""

    gt_index: Int[Array, "*B N"]
    positive: Bool[Array, "*B N"]
    negative: Bool[Array, "*B N"]


def match(
    iou: Float[Array, "N M"],
    gt_usable: Bool[Array, "M"],
    positive_threshold: float,
    negative_threshold: float,
    allow_low_quality: bool,
    ignored: Bool[Array, "N"] | None = None,
    usable: Bool[Array, "N"] | None = None,
) -> Matches:
    """Match each candidate with the object that it overlaps most; the first one of equals.

    A candidate is positive if its IoU is at least `positive_threshold`, and negative if it is below
    `negative_threshold` and the candidate is not `ignored`. With `allow_low_quality`, every
    candidate whose IoU equals an object's best IoU is positive too, so that each overlapped object
    has a match. Columns of `iou` where `gt_usable` is False are not used. Candidates that are not
    `usable` are neither positive nor negative.
    """
    num_gt = iou.shape[1]
    if num_gt == 0:
        none = jnp.zeros(iou.shape[0], bool)
        best, gt_index = jnp.zeros(iou.shape[0], iou.dtype), jnp.zeros(iou.shape[0], jnp.int32)
        positive = none
    else:
        iou = jnp.where(gt_usable, iou, -1)
        if usable is not None:
            iou = jnp.where(usable[:, None], iou, -1)
        best, gt_index = jnp.max(iou, 1), jnp.argmax(iou, 1).astype(jnp.int32)
        positive = (best >= positive_threshold) & jnp.any(gt_usable)
        if allow_low_quality:
            # An object that overlaps no candidate has best IoU 0, as every distant candidate has.
            best_of_gt = jnp.max(iou, 0)
            positive |= jnp.any((iou == best_of_gt) & (best_of_gt > 0), 1)
    negative = ~positive & (best < negative_threshold)
    if ignored is not None:
        negative &= ~ignored
    if usable is not None:
        negative &= usable
    return Matches(gt_index, positive, negative)
