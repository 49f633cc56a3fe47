"""Landmarks by heatmaps compared with torchvision's functions, and their losses by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax.attributes.landmarks import Landmarks
from mtl_jax.losses import term_value
from mtl_jax.models.attribute_heads.heads import head_of
from mtl_jax.models.attribute_heads.heatmap import HeatmapHead, HeatmapLayers

POINTS = Landmarks("pose", points=("a", "b", "c"), loss="heatmap")
HEAD = head_of(POINTS)
# Smaller than a map, equal, larger, wide, high, above the largest static size, without area.
BOXES = np.array(
    [
        [3.2, 4.1, 33.9, 29.5],
        [0.0, 0.0, 56.0, 56.0],
        [10.3, 20.7, 250.1, 190.9],
        [5.0, 5.0, 605.5, 95.2],
        [1.0, 2.0, 40.0, 500.5],
        [0.0, 0.0, 1900.0, 300.0],
        [7.0, 7.0, 7.0, 7.0],
    ],
    np.float32,
)


def maps(rows=7, seed=0, side=56):
    """Draw smooth maps with one peak each, and noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    cy, cx = rng.uniform(0, side, (2, rows, 3, 1, 1))
    peaks = 8 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 18)
    return (peaks + rng.normal(0, 0.3, peaks.shape)).astype(np.float32)


def test_the_loss_of_landmarks_selects_the_head():
    assert isinstance(HEAD, HeatmapHead)
    assert not isinstance(head_of(Landmarks("pose", points=("a",))), HeatmapHead)


def test_peaks_are_torchvisions():
    torch = pytest.importorskip("torch")
    roi_heads = pytest.importorskip("torchvision.models.detection.roi_heads")
    logits, boxes = maps(), BOXES[[0, 1, 2, 3, 4, 6]]
    logits = logits[: len(boxes)]
    found = HEAD.place(jax.jit(HEAD.decode)(logits, boxes), boxes).reshape(-1, 3, 3)
    expected, scores = roi_heads.heatmaps_to_keypoints(torch.tensor(logits), torch.tensor(boxes))
    np.testing.assert_allclose(found[..., :2], expected[..., :2], atol=1e-3)
    np.testing.assert_allclose(found[..., 2], 1 / (1 + np.exp(-scores.numpy())), atol=1e-5)


def test_a_box_beyond_the_largest_resampling_is_resampled_coarser():
    found = HEAD.place(HEAD.decode(maps()[5:6], BOXES[5:6]), BOXES[5:6]).reshape(3, 3)
    rng = np.random.default_rng(0)
    cy, cx = rng.uniform(0, 56, (2, len(BOXES), 3))
    np.testing.assert_allclose(found[:, 0], (cx[5] + 0.5) * 1900 / 56, atol=1900 / 56)
    np.testing.assert_allclose(found[:, 1], (cy[5] + 0.5) * 300 / 56, atol=300 / 56)


def test_the_loss_is_torchvisions_over_the_points_inside_the_box():
    torch = pytest.importorskip("torch")
    roi_heads = pytest.importorskip("torchvision.models.detection.roi_heads")
    logits, boxes = maps(4), BOXES[:4]
    points = np.zeros((4, 3, 3), np.float32)
    points[..., :2] = boxes[:, None, :2] + (boxes[:, None, 2:] - boxes[:, None, :2]) * 0.3
    points[0, 1, :2] = boxes[0, 2:]  # the far corner belongs to the last cell
    points[1, 0, :2] = 70, 10  # outside
    points[..., 2] = 1
    known = np.ones(points.shape, bool)
    known[2, 2] = False
    visible = np.where(known[..., :1], 2.0, 0.0)
    keypoints = torch.tensor(np.concatenate([points[..., :2], visible], -1), dtype=torch.float32)
    cells, valid = roi_heads.keypoints_to_heatmap(keypoints, torch.tensor(boxes), 56)
    kept = valid.bool().flatten()
    expected = torch.nn.functional.cross_entropy(
        torch.tensor(logits).reshape(12, -1)[kept], cells.flatten()[kept]
    )
    assert kept.sum() == 10
    place, seen = HEAD.loss(logits, points.reshape(4, -1), known.reshape(4, -1), boxes)
    np.testing.assert_allclose(place.total / place.count, float(expected), rtol=1e-5)
    peaks = logits.max((2, 3))[known[..., 2]]
    np.testing.assert_allclose(seen.total / seen.count, np.log1p(np.exp(-peaks)).mean(), atol=1e-6)


def test_missing_labels_have_no_gradient():
    logits = maps(2)
    values, known = np.full((2, 9), np.nan, np.float32), np.zeros((2, 9), bool)
    gradient = jax.grad(lambda x: term_value(HEAD.loss(x, values, known, BOXES[:2])))(logits)
    assert not np.asarray(gradient).any()


def test_layers_are_four_times_as_fine_as_the_region():
    layers = HeatmapLayers(3)
    x = jnp.zeros((2, 5, 5, 8))
    shape = jax.eval_shape(layers.init_with_output, jax.random.key(0), x, jnp.ones(2, bool))[0]
    assert shape.shape == (2, 3, 20, 20)
