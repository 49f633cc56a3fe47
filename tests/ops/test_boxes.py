import chex
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from mtl_jax.ops import boxes as box_ops

ODD = np.array(
    [
        [0, 0, 0, 0],
        [5, 5, 5, 9],  # a line
        [9, 9, 4, 4],  # corners swapped
        [0, 0, 1e-5, 1e-5],
        [-30, -20, -10, -5],
        [2, 3, 14, 9],
    ],
    np.float32,
)


def random_boxes(rng, count, size=100):
    corner = rng.uniform(-size / 4, size, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(0, size, (count, 2))], 1).astype(np.float32)


def test_iou_is_that_of_plain_loops():
    rng = np.random.default_rng(0)
    a = np.concatenate([random_boxes(rng, 20), ODD])
    b = np.concatenate([random_boxes(rng, 9), ODD])
    np.testing.assert_allclose(box_ops.iou(a, b), oracles.iou(a, b), atol=1e-6)


def test_iou_of_a_box_with_itself_is_one():
    boxes = random_boxes(np.random.default_rng(1), 30)
    np.testing.assert_allclose(np.diag(box_ops.iou(boxes, boxes)), 1, atol=1e-6)


def test_smaller_overlap_is_the_part_of_the_smaller_box():
    a = np.array([[0, 0, 10, 10], [20, 20, 40, 40], [5, 5, 5, 5]], np.float32)
    b = np.array([[5, 0, 9, 10], [0, 5, 30, 30]], np.float32)
    expected = [[1, 0.5], [0, 0.25], [0, 0]]
    np.testing.assert_allclose(box_ops.smaller_overlap(a, b), expected)
    np.testing.assert_allclose(box_ops.smaller_overlap(b, a), np.transpose(expected))


def test_the_fraction_inside_is_that_of_the_box_alone():
    boxes = np.array([[0, 0, 10, 10], [20, 20, 40, 40], [5, 5, 5, 5]], np.float32)
    crowds = np.array([[5, 0, 100, 10], [0, 0, 0, 0]], np.float32)
    np.testing.assert_allclose(box_ops.fraction_inside(boxes, crowds), [[0.5, 0], [0, 0], [0, 0]])


@hypothesis.given(
    st.lists(st.floats(0, 500, width=32), min_size=4, max_size=4),
    st.lists(st.floats(1, 300, width=32), min_size=4, max_size=4),
)
@hypothesis.settings(max_examples=50, deadline=None)
def test_decode_inverts_encode(corners, sides):
    box = jnp.array([*corners[:2], corners[0] + sides[0], corners[1] + sides[1]], jnp.float32)
    anchor = jnp.array([*corners[2:], corners[2] + sides[2], corners[3] + sides[3]], jnp.float32)
    weights = (10.0, 10.0, 5.0, 5.0)
    deltas = box_ops.encode(box, anchor, weights)
    back = box_ops.decode(deltas, anchor, weights, max_log_scale=20.0)
    np.testing.assert_allclose(back, box, atol=2e-3)


def test_coding_is_torchvisions():
    torch = pytest.importorskip("torch")
    coder_module = pytest.importorskip("torchvision.models.detection._utils")
    rng = np.random.default_rng(2)
    wider = np.array([0, 0, 1, 1], np.float32)
    boxes, anchors = random_boxes(rng, 40) + wider, random_boxes(rng, 40) + wider
    deltas = rng.normal(0, 30, (40, 4)).astype(np.float32)  # includes values beyond the clamp
    weights = (10.0, 10.0, 5.0, 5.0)
    coder = coder_module.BoxCoder(weights)
    encoded = coder.encode_single(torch.tensor(boxes), torch.tensor(anchors))
    decoded = coder.decode_single(torch.tensor(deltas), torch.tensor(anchors))
    np.testing.assert_allclose(box_ops.encode(boxes, anchors, weights), encoded, atol=1e-4)
    np.testing.assert_allclose(
        box_ops.decode(deltas, anchors, weights), decoded, rtol=1e-4, atol=1e-2
    )


def test_decode_broadcasts_anchors_over_classes():
    deltas = np.random.default_rng(3).normal(size=(5, 3, 4)).astype(np.float32)
    anchors = random_boxes(np.random.default_rng(4), 5)
    together = box_ops.decode(deltas, anchors[:, None], (1.0,) * 4)
    for k in range(3):
        one = box_ops.decode(deltas[:, k], anchors, (1.0,) * 4)
        np.testing.assert_allclose(together[:, k], one, rtol=1e-6)


def test_clip_and_is_larger():
    boxes = np.array([[-5, -5, 30, 8], [3, 4, 3.5, 9], [40, 1, 50, 2]], np.float32)
    clipped = box_ops.clip(boxes, 10.0, 20.0)
    np.testing.assert_array_equal(clipped, [[0, 0, 20, 8], [3, 4, 3.5, 9], [20, 1, 20, 2]])
    np.testing.assert_array_equal(box_ops.is_larger(clipped, 0.5), [True, True, False])
    assert not box_ops.is_larger(jnp.array([0, 0, jnp.nan, 5.0]), 0.0)


def test_degenerate_boxes_have_finite_values_and_gradients():
    boxes = jnp.concatenate([ODD, jnp.array([[0, 0, 1e-20, 1e-20]])])

    def total(a, b):
        weights = (10.0, 10.0, 5.0, 5.0)
        coded = box_ops.encode(a, b, weights)
        overlaps = box_ops.iou(a, b) + box_ops.fraction_inside(a, b)
        return jnp.sum(coded) + jnp.sum(overlaps) + jnp.sum(box_ops.decode(1e4 * a, b, weights))

    for a in (boxes, boxes[::-1]):
        chex.assert_tree_all_finite(jax.jit(jax.value_and_grad(total, (0, 1)))(a, boxes))
