"""L-NMS against plain loops, and on a case computed by hand."""

import jax
import numpy as np
import oracles
import pytest

from mtl_jax.ops.landmark_nms import group_regions, median, precise_boxes

run = jax.jit(group_regions, static_argnames=("overlap", "top_k", "max_outputs"))


def slow_groups(boxes, scores, valid, overlap, top_k):
    """Algorithm 2, region by region."""
    left = [i for i in np.argsort(-scores, kind="stable") if valid[i]]
    faces = []
    while left:
        best = left[0]
        group = [
            i
            for i in left
            if i == best
            or oracles.smaller_overlap_float32(boxes[best], boxes[i]) > np.float32(overlap)
        ]
        faces.append(group[:top_k])
        left = [i for i in left if i not in group]
    return faces


@pytest.mark.parametrize("overlap", [0.1, 0.5, 0.9])
def test_groups_are_those_of_the_loop(overlap):
    for seed in range(4):
        rng = np.random.default_rng(seed)
        corner = rng.integers(0, 60, (80, 2))
        boxes = np.concatenate([corner, corner + rng.integers(1, 30, (80, 2))], 1)
        boxes = boxes.astype(np.float32)
        scores = rng.permutation(80).astype(np.float32) / 80
        valid = rng.random(80) < 0.8
        boxes[~valid] = np.nan
        found = jax.tree.map(np.asarray, run(boxes, scores, valid, overlap, 5, 80))
        members = [list(m[v]) for m, v in zip(found.members, found.member_valid, strict=True)]
        expected = slow_groups(boxes, scores, valid, overlap, 5)
        assert [m for m in members if m] == expected
        assert found.valid.sum() == len(expected)
        cut = jax.tree.map(np.asarray, run(boxes, scores, valid, overlap, 5, 3))
        np.testing.assert_array_equal(cut.members, found.members[:3])


def test_four_touching_faces_are_four():
    """Four faces side by side, with regions 40 wide and 20 apart, so neighbours overlap by a third.
    Their landmarks, 18 wide, do not touch. Each face has three regions; the second and third are
    moved by 1 and 2 pixels, and their scores are 0.01 and 0.02 lower.
    """
    centres = np.repeat(20 + 20.0 * np.arange(4), 3) + np.tile([0, 1, 2], 4)
    scores = np.repeat([0.9, 0.6, 0.8, 0.7], 3) - np.tile([0, 0.01, 0.02], 4)
    regions = np.stack([centres - 20, 0 * centres, centres + 20, 0 * centres + 40], 1)
    half = np.array([[-9, 10], [9, 10], [0, 30], [100, 100]])  # the fourth is hidden
    points = np.stack([centres, 0 * centres], -1)[:, None] + half
    visible = np.tile([True, True, True, False], (12, 1))
    f32 = np.float32
    boxes, box_valid = (np.asarray(x) for x in precise_boxes(points.astype(f32), visible))
    assert box_valid.all()
    np.testing.assert_array_equal(boxes[1], [12, 10, 30, 30])
    valid = np.ones(12, bool)
    by_regions = oracles.nms(regions.astype(f32), scores.astype(f32), valid, 0.2)
    assert len(by_regions) == 2  # plain NMS merges touching faces
    faces = run(boxes, scores.astype(f32), valid, 0.2, 5, 10)
    assert np.asarray(faces.valid).tolist() == [True] * 4 + [False] * 6
    x = median(points[..., 0].astype(f32)[faces.members], faces.member_valid)
    # Each face's median is its second region's; by descending score the faces are 1, 3, 4, 2.
    np.testing.assert_allclose(x[:4, 2], [21, 61, 81, 41])


def test_a_part_of_a_face_is_not_a_separate_face():
    """One region shows a face of 60 x 60, another only its eyes: 40 x 10, a ninth of it."""
    boxes = np.array([[0, 0, 60, 60], [10, 10, 50, 20]], np.float32)
    valid = np.ones(2, bool)
    for scores in ([0.9, 0.8], [0.8, 0.9]):
        faces = run(boxes, np.array(scores, np.float32), valid, 0.5, 5, 2)
        assert np.asarray(faces.valid).tolist() == [True, False]
        assert np.asarray(faces.member_valid)[0].sum() == 2


def test_one_landmark_has_no_box():
    points = np.ones((2, 3, 2), np.float32)
    visible = np.array([[True, False, False], [True, True, False]])
    boxes, box_valid = precise_boxes(points, visible)
    np.testing.assert_array_equal(boxes, [[0] * 4, [1, 1, 1, 1]])
    np.testing.assert_array_equal(box_valid, [False, True])


@pytest.mark.parametrize("count", [0, 1, 2, 4, 5])
def test_medians_are_numpys(count):
    values = np.random.default_rng(count).normal(size=(3, 5, 2)).astype(np.float32)
    valid = np.zeros((3, 5), bool)
    valid[:, :count] = True
    expected = np.median(values[:, :count], 1) if count else np.zeros((3, 2))
    values[:, count:] = np.nan
    np.testing.assert_allclose(median(values, valid), expected, rtol=1e-6)
