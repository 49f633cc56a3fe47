"""Training targets of one image: which anchors and regions are sampled, and their targets."""

from typing import NamedTuple

import jax
import numpy as np

from mtl_jax.config.options.mask_rcnn import MaskRCNNOptions
from mtl_jax.models.backbones import make_backbone, pyramid_strides
from mtl_jax.models.ground_truth import clean
from mtl_jax.models.mask_rcnn.proposals import image_anchors
from mtl_jax.models.mask_rcnn.targets import match_anchors, sample_anchors, sample_regions
from mtl_jax.models.padding import outline
from mtl_jax.ops import boxes as box_ops
from mtl_jax.ops.masks import mask_targets
from mtl_jax.types import Batch, Proposals

RANDOM_REGIONS = 2000  # used instead of a network's proposals
MASK_SIDE = 28


class AnchorExamples(NamedTuple):
    """Anchors of one image: N anchors, R of them sampled."""

    boxes: np.ndarray  # [N, 4]
    level_sizes: list[tuple[int, int]]  # rows and columns of P2 .. P6
    strides: np.ndarray  # [L, 2]
    positive: np.ndarray  # [N] bool, before sampling
    negative: np.ndarray
    neutral: np.ndarray  # inside the image, neither positive nor negative
    sampled_positive: np.ndarray  # [R+] indices
    sampled_negative: np.ndarray  # [R-] indices
    refined: np.ndarray  # [R+, 4]: sampled positive anchors moved by their targets


class RegionExamples(NamedTuple):
    """Sampled regions of one image, positive ones first, without padding rows."""

    boxes: np.ndarray  # [R, 4]
    positive: np.ndarray  # [R] bool
    classes: np.ndarray  # [R]
    gt_index: np.ndarray  # [R]
    refined: np.ndarray  # [R, 4]
    masks: np.ndarray  # [R, 28, 28] in 0..1, for positive regions


def anchor_examples(row: Batch, options: MaskRCNNOptions, seed: int) -> AnchorExamples:
    """Match and sample the anchors of `row`, a batch without its leading axis."""
    batch = clean(jax.tree.map(lambda x: np.asarray(x)[None], row))
    strides = pyramid_strides(make_backbone(options.backbone, train=False, dtype=options.dtype))
    empty = outline(batch.inputs, options.size_divisible, strides)
    pyramid = jax.tree.map(lambda x: x[0], empty)
    anchors = image_anchors(pyramid, options.rpn)
    gt = jax.tree.map(lambda x: x[0], batch.gt)
    matches = match_anchors(anchors, gt, options.rpn)
    targets = sample_anchors(jax.random.key(seed), anchors, gt, row.exhaustive, options.rpn)
    samples, boxes = targets.samples, np.asarray(anchors.boxes)
    refined = box_ops.decode(targets.deltas, boxes[samples.index], options.rpn.box_weights)
    positive, negative = np.asarray(matches.positive), np.asarray(matches.negative)
    kept = np.asarray(samples.positive)
    index = np.asarray(samples.index)
    return AnchorExamples(
        boxes,
        [level.shape for level in pyramid.inside],
        np.asarray(pyramid.extent // pyramid.cells),
        positive,
        negative,
        np.asarray(anchors.valid) & ~positive & ~negative,
        index[kept],
        index[np.asarray(samples.valid) & ~kept],
        np.asarray(refined)[kept],
    )


def region_examples(
    row: Batch, options: MaskRCNNOptions, full_size_masks: bool, seed: int
) -> RegionExamples:
    """Sample regions of `row` from random ones, half of them anywhere, half near its objects."""
    batch = clean(jax.tree.map(lambda x: np.asarray(x)[None], row))
    gt = jax.tree.map(lambda x: x[0], batch.gt)
    proposals = _random_regions(row, seed)
    regions = sample_regions(
        jax.random.key(seed),
        proposals,
        gt,
        row.exhaustive,
        options.roi,
        options.box_head.box_weights,
    )
    refined = box_ops.decode(regions.deltas, regions.boxes, options.box_head.box_weights)
    height, width = row.images.shape[:2]
    whole = np.broadcast_to(np.array([0, 0, width, height], np.float32), gt.boxes.shape)
    frames = whole if full_size_masks else gt.boxes
    masks = mask_targets(
        gt.masks, frames, regions.boxes, regions.gt_index, MASK_SIDE, options.aligned_masks
    )
    kept = np.asarray(regions.valid)
    return RegionExamples(
        *(
            np.asarray(x)[kept]
            for x in (
                regions.boxes,
                regions.positive,
                regions.classes,
                regions.gt_index,
                refined,
                masks,
            )
        )
    )


def _random_regions(row: Batch, seed: int) -> Proposals:
    rng = np.random.default_rng(seed)
    height, width = row.sizes
    half = RANDOM_REGIONS // 2
    corners = rng.uniform(0, [width, height], (half, 2, 2))
    boxes = [np.concatenate([corners.min(1), corners.max(1)], 1)]
    known = row.gt.boxes[row.gt.valid]
    if len(known):
        near = known[rng.integers(len(known), size=half)]
        sides = near[:, 2:] - near[:, :2]
        boxes.append(near + rng.normal(0, 0.15, (half, 4)) * np.tile(sides, 2))
    found = np.concatenate(boxes).astype(np.float32)
    found = np.clip(found, 0, np.array([width, height, width, height], np.float32))
    valid = (found[:, 2] > found[:, 0] + 1) & (found[:, 3] > found[:, 1] + 1)
    return Proposals(np.where(valid[:, None], found, 0), valid)
