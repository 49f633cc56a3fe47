"""Proposals and detections of one image compared with loops."""

from functools import partial

import jax
import numpy as np
import oracles
import pytest

from mtl_jax.config.options.mask_rcnn import BoxHeadOptions, DetectionOptions, RpnOptions
from mtl_jax.models.mask_rcnn.proposals import Anchors, propose, select_detections
from mtl_jax.ops import boxes as box_ops
from mtl_jax.types import Proposals

SIZE = np.array([90, 100], np.float32)
LEVEL_SIZES = (60, 40, 20)


def random_boxes(count, seed=0):
    rng = np.random.default_rng(seed)
    corners = rng.uniform(-5, 80, (count, 2))
    return np.concatenate([corners, corners + rng.uniform(5, 40, (count, 2))], 1).astype(np.float32)


@pytest.mark.parametrize("joint", [False, True])
def test_proposals_are_the_best_after_nms_by_level_or_over_all(joint):
    rng = np.random.default_rng(1)
    anchors = random_boxes(sum(LEVEL_SIZES))
    logits = rng.normal(size=len(anchors)).astype(np.float32)
    deltas = (0.1 * rng.normal(size=anchors.shape)).astype(np.float32)
    options = RpnOptions(joint_levels=joint, pre_nms=30, post_nms=25, nms_iou=0.4, min_size=0)
    run = jax.jit(partial(propose, level_sizes=LEVEL_SIZES, options=options, train=False))
    there = rng.random(len(anchors)) < 0.8
    found = run(logits, deltas, Anchors(anchors, there), SIZE)

    levels = np.repeat(np.arange(3), LEVEL_SIZES) * (not joint)
    best = [
        i
        for level in set(levels)
        for i in sorted(np.flatnonzero((levels == level) & there), key=lambda i: -logits[i])[:30]
    ]
    boxes = box_ops.clip(box_ops.decode(deltas, anchors, options.box_weights), *SIZE)
    chosen = np.isin(np.arange(len(anchors)), best)
    kept = oracles.nms(np.asarray(boxes), logits, chosen, 0.4, levels)[:25]
    assert found.valid.sum() == len(kept) > 10
    np.testing.assert_allclose(found.boxes[: len(kept)], boxes[np.array(kept)], atol=1e-4)


@pytest.mark.parametrize("best_only", [False, True])
def test_a_region_counts_for_every_class_or_only_for_its_best(best_only):
    rng = np.random.default_rng(2)
    regions, classes = 40, 5
    proposals = Proposals(random_boxes(regions), np.arange(regions) < 35)
    logits = (2 * rng.normal(size=(regions, classes))).astype(np.float32)
    deltas = rng.normal(size=(regions, classes, 4)).astype(np.float32)
    box, options = (
        BoxHeadOptions(),
        DetectionOptions(
            score_threshold=0.2, nms_iou=0.3, max_detections=30, best_class_only=best_only
        ),
    )
    run = jax.jit(partial(select_detections, box_options=box, options=options))
    found = run(logits, deltas, proposals, SIZE)

    scores = np.asarray(jax.nn.softmax(logits))
    rows = [
        (scores[r, k], r, k)
        for r in range(35)
        for k in range(1, classes)
        if scores[r, k] > 0.2 and (not best_only or k == scores[r].argmax())
    ]
    boxes = np.stack(
        [
            box_ops.clip(box_ops.decode(deltas[r, k], proposals.boxes[r], box.box_weights), *SIZE)
            for _, r, k in rows
        ]
    )
    values, labels = np.array([s for s, _, _ in rows]), np.array([k for _, _, k in rows])
    kept = oracles.nms(boxes, values, np.ones(len(rows), bool), 0.3, labels)[:30]
    assert found.valid.sum() == len(kept) > 10
    np.testing.assert_allclose(found.scores[: len(kept)], values[kept], atol=1e-6)
    np.testing.assert_array_equal(found.classes[: len(kept)], labels[kept])
    np.testing.assert_allclose(found.boxes[: len(kept)], boxes[kept], atol=1e-4)
    assert any((scores[r] > 0.2).sum() > 1 for r in range(35))
