"""Training targets of anchors and regions: matches with the ground truth, and samples of them.

Functions process one image, except `sample_batch_anchors`.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from mtl_jax.config.options.mask_rcnn import RoiOptions, RpnOptions
from mtl_jax.models.mask_rcnn.proposals import Anchors
from mtl_jax.ops import boxes as box_ops
from mtl_jax.ops.matching import Matches, match
from mtl_jax.ops.sampling import Samples, sample
from mtl_jax.types import Array, GroundTruth, Proposals

IGNORED_PART = 0.5  # candidates with a larger fraction inside an ignored region are not negatives


class AnchorTargets(NamedTuple):
    samples: Samples  # into the anchors
    deltas: Float[Array, "*B R 4"]


class RegionTargets(NamedTuple):
    boxes: Float[Array, "*B R 4"]  # positives first
    valid: Bool[Array, "*B R"]
    positive: Bool[Array, "*B R"]
    gt_index: Int[Array, "*B R"]
    classes: Int[Array, "*B R"]  # 0 for negatives
    deltas: Float[Array, "*B R 4"]


def match_anchors(anchors: Anchors, gt: GroundTruth, options: RpnOptions) -> Matches:
    """Match anchors with objects."""
    return _match(*anchors, gt, options.positive_iou, options.negative_iou, low_quality=True)


def sample_anchors(
    key: Array,
    anchors: Anchors,
    gt: GroundTruth,
    negatives_allowed: Bool[Array, ""],
    options: RpnOptions,
) -> AnchorTargets:
    """Match anchors with objects and sample those used in the RPN's losses."""
    matches = match_anchors(anchors, gt, options)
    negative = matches.negative & negatives_allowed
    samples = sample(key, matches.positive, negative, options.samples, options.positive_fraction)
    gt_boxes = gt.boxes[matches.gt_index[samples.index]]
    deltas = box_ops.encode(gt_boxes, anchors.boxes[samples.index], options.box_weights)
    return AnchorTargets(samples, deltas)


def sample_batch_anchors(
    keys: Array,
    anchors: Anchors,
    gt: GroundTruth,
    negatives_allowed: Bool[Array, "B"],
    options: RpnOptions,
) -> AnchorTargets:
    """Run `sample_anchors` on each image.

    Only the first quarter of the slots is compared with the anchors if it contains all objects, and
    ignored regions only if there are any.
    """
    slots, regions = gt.valid.shape[1], gt.ignored.shape[1]
    quarter = -(-slots // 4)

    def run(objects: int, ignored: int) -> AnchorTargets:
        few = jax.tree.map(lambda x: x[:, :objects], gt)
        few = few._replace(ignored=gt.ignored[:, :ignored])
        sampler = partial(sample_anchors, options=options)
        return jax.vmap(sampler)(keys, anchors, few, negatives_allowed)

    used = jnp.max(gt.valid * jnp.arange(1, slots + 1))
    sizes = ((quarter, 0), (slots, 0), (quarter, regions), (slots, regions))
    index = (used > quarter) + 2 * jnp.any(gt.ignored)
    return jax.lax.switch(index, [partial(run, *each) for each in sizes])


def sample_regions(
    key: Array,
    proposals: Proposals,
    gt: GroundTruth,
    negatives_allowed: Bool[Array, ""],
    options: RoiOptions,
    box_weights: tuple[float, ...],
) -> RegionTargets:
    """Add the ground truth to the proposals, match them with objects, and sample the regions that
    the heads are trained on.
    """
    boxes = jnp.concatenate([proposals.boxes, gt.boxes])
    usable = jnp.concatenate([proposals.valid, gt.valid])
    matches = _match(
        boxes, usable, gt, options.positive_iou, options.negative_iou, low_quality=False
    )
    negative = matches.negative & negatives_allowed
    samples = sample(key, matches.positive, negative, options.samples, options.positive_fraction)
    boxes = jnp.where(samples.valid[:, None], boxes[samples.index], 0.0)
    gt_index = matches.gt_index[samples.index]
    return RegionTargets(
        boxes,
        samples.valid,
        samples.positive,
        gt_index,
        jnp.where(samples.positive, gt.classes[gt_index], 0),
        box_ops.encode(gt.boxes[gt_index], boxes, box_weights),
    )


def _match(
    boxes: Float[Array, "N 4"],
    usable: Bool[Array, "N"],
    gt: GroundTruth,
    positive_iou: float,
    negative_iou: float,
    low_quality: bool,
) -> Matches:
    # A candidate that would be positive or neither for an ignored object, or lies in a crowd.
    ignored = box_ops.fraction_inside(boxes, gt.ignored) > IGNORED_PART
    ignored |= box_ops.iou(boxes, gt.ignored) >= negative_iou
    return match(
        box_ops.iou(boxes, gt.boxes),
        gt.valid,
        positive_iou,
        negative_iou,
        low_quality,
        ignored.any(1),
        usable,
    )
