"""Proposals from the RPN's outputs, and detections from the box head's outputs.

Functions process one image, with static shapes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from mtl_jax.config.options.mask_rcnn import BoxHeadOptions, DetectionOptions, RpnOptions
from mtl_jax.models.padding import Pyramid
from mtl_jax.ops import boxes as box_ops
from mtl_jax.ops.anchors import pyramid_anchors
from mtl_jax.ops.nms import nms
from mtl_jax.types import Array, Proposals


class Anchors(NamedTuple):
    boxes: Float[Array, "*B N 4"]
    valid: Bool[Array, "*B N"]  # False: outside the part that the network uses


class Selected(NamedTuple):
    boxes: Float[Array, "*B D 4"]
    scores: Float[Array, "*B D"]
    classes: Int[Array, "*B D"]
    valid: Bool[Array, "*B D"]


class Steps(NamedTuple):
    """Intermediate results of detection, with boxes in the network's convention."""

    anchors: Anchors
    rpn_logits: Float[Array, "*B N"]
    rpn_deltas: Float[Array, "*B N 4"]
    proposals: Proposals
    class_logits: Float[Array, "*B P K"]
    box_deltas: Float[Array, "*B P K 4"]
    selected: Selected


def image_anchors(pyramid: Pyramid, options: RpnOptions) -> Anchors:
    """Return the anchors of one image; the maps of its pyramid are not used."""
    shapes = [level.shape for level in pyramid.inside]
    # As in torchvision, the stride of P6 is smaller if P5 has an odd number of cells.
    strides = pyramid.extent // pyramid.cells
    boxes = pyramid_anchors(
        shapes, strides, options.anchor_sizes, options.anchor_ratios, options.round_anchors
    )
    inside = jnp.concatenate([level.reshape(-1) for level in pyramid.inside])
    return Anchors(boxes, inside.repeat(options.anchors_per_cell))


def propose(
    logits: Float[Array, "N"],
    deltas: Float[Array, "N 4"],
    anchors: Anchors,
    size: Float[Array, "2"],
    level_sizes: Sequence[int],
    options: RpnOptions,
    train: bool,
) -> Proposals:
    """Refine each level's best anchors, clip them to the image, and keep the best after NMS.

    NMS is per level. With `joint_levels`, all levels are treated as one.
    """
    if options.joint_levels:
        level_sizes = [sum(level_sizes)]
    pre_nms = options.pre_nms_train if train else options.pre_nms
    post_nms = options.post_nms_train if train else options.post_nms
    logits = jnp.where(anchors.valid, logits, -jnp.inf)
    index, start = [], 0
    for count in level_sizes:
        index.append(start + jax.lax.top_k(logits[start : start + count], min(pre_nms, count))[1])
        start += count
    runs = [len(best) for best in index]
    index = jnp.concatenate(index)
    boxes = box_ops.decode(deltas[index], anchors.boxes[index], options.box_weights)
    boxes = box_ops.clip(boxes, size[0], size[1])
    scores = jax.nn.sigmoid(logits[index])
    usable = box_ops.is_larger(boxes, options.min_size) & (scores >= options.score_threshold)
    usable &= anchors.valid[index]
    kept, valid = nms(boxes, scores, usable, options.nms_iou, post_nms, runs=runs)
    return Proposals(jnp.where(valid[:, None], boxes[kept], 0.0), valid)


def select_detections(
    logits: Float[Array, "P K"],
    deltas: Float[Array, "P K 4"],
    proposals: Proposals,
    size: Float[Array, "2"],
    box_options: BoxHeadOptions,
    options: DetectionOptions,
) -> Selected:
    """Refine each proposal for each class, remove low scores, and keep the best after NMS per
    class.
    """
    num_classes = logits.shape[1]
    scores = jax.nn.softmax(logits)[:, 1:].reshape(-1)
    count = min(options.max_candidates, scores.shape[0])
    usable = proposals.valid.repeat(num_classes - 1) & (scores > options.score_threshold)
    if options.best_class_only:
        best = jnp.argmax(logits, axis=1)
        usable &= (best[:, None] == jnp.arange(1, num_classes)).reshape(-1)
    scores, index = jax.lax.top_k(jnp.where(usable, scores, -1.0), count)
    region, label = index // (num_classes - 1), index % (num_classes - 1) + 1
    boxes = box_ops.decode(deltas[region, label], proposals.boxes[region], box_options.box_weights)
    boxes = box_ops.clip(boxes, size[0], size[1])
    usable = (scores > options.score_threshold) & box_ops.is_larger(boxes, options.min_size)
    return best_boxes(Selected(boxes, scores, label, usable), options)


def best_boxes(candidates: Selected, options: DetectionOptions) -> Selected:
    """Keep the best boxes of one image after NMS per class."""
    boxes, scores, classes, usable = candidates
    count = options.max_detections
    kept, valid = nms(boxes, scores, usable, options.nms_iou, count, groups=classes)
    return Selected(
        jnp.where(valid[:, None], boxes[kept], 0.0),
        jnp.where(valid, scores[kept], 0.0),
        jnp.where(valid, classes[kept], 0),
        valid,
    )
