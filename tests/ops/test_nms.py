import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from mtl_jax.ops.nms import nms

THRESHOLDS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
COUNT = 160
run = jax.jit(nms, static_argnames=("max_outputs",))


def crowded(rng, count, clusters=12):
    """Return boxes around few centres, on a coarse grid so that overlaps and scores tie."""
    centre = rng.integers(0, 200, (clusters, 2))[rng.integers(0, clusters, count)]
    corner = centre + rng.integers(-6, 7, (count, 2))
    boxes = np.concatenate([corner, corner + rng.integers(0, 40, (count, 2))], 1)
    return boxes.astype(np.float32), (rng.integers(0, 40, count) / 40).astype(np.float32)


def chain(count):
    """Return boxes that overlap only the next one: every second one is kept, one per round."""
    left = 4.0 * np.arange(count, dtype=np.float32)
    boxes = np.stack([left, 0 * left, left + 10, 0 * left + 10], 1)
    return boxes, np.linspace(1, 0.5, count, dtype=np.float32)


def kept(boxes, scores, valid, threshold, max_outputs, groups=None):
    index, filled = map(np.asarray, run(boxes, scores, valid, threshold, max_outputs, groups))
    assert index.shape == filled.shape == (max_outputs,)
    assert index.dtype == np.int32
    assert not filled[filled.sum() :].any()
    assert (index[~filled] == 0).all()
    return list(index[filled])


@pytest.mark.parametrize("threshold", THRESHOLDS)
@pytest.mark.parametrize("by_class", [False, True])
def test_fault_1_nms_is_greedy_at_every_threshold(threshold, by_class):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        boxes, scores = crowded(rng, COUNT)
        boxes[:9] = boxes[0]  # identical
        boxes[9:14, 2:] = boxes[9:14, :2]  # no area
        valid = rng.random(COUNT) < 0.9
        groups = rng.integers(0, 4, COUNT) if by_class else None
        expected = oracles.nms(boxes, scores, valid, threshold, groups)
        assert kept(boxes, scores, valid, threshold, COUNT, groups) == expected
        assert kept(boxes, scores, valid, threshold, 10, groups) == expected[:10]


def test_runs_are_groups_that_are_not_compared():
    rng = np.random.default_rng(0)
    boxes, scores = crowded(rng, COUNT)
    scores[5] = np.nan
    valid = rng.random(COUNT) < 0.9
    lengths = (50, 1, 0, 90, 19)
    groups = np.repeat(np.arange(len(lengths)), lengths)
    both = rng.integers(0, 3, COUNT)
    for given, expected in ((None, groups), (both, 3 * groups + both)):
        index, filled = nms(boxes, scores, valid, 0.4, COUNT, given, runs=lengths)
        usable = valid & ~np.isnan(scores)
        kept_indices = oracles.nms(boxes, np.nan_to_num(scores), usable, 0.4, expected)
        assert list(np.asarray(index)[np.asarray(filled)]) == kept_indices


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_fault_1_nms_follows_chains(threshold):
    boxes, scores = chain(101)
    everything = np.ones(101, bool)
    expected = oracles.nms(boxes, scores, everything, threshold)
    assert kept(boxes, scores, everything, threshold, 101) == expected
    if 10 / 70 < threshold < 6 / 14:
        assert expected == list(range(0, 101, 2))


def test_fault_1_nms_with_none_valid_keeps_none():
    boxes, scores = crowded(np.random.default_rng(0), COUNT)
    assert kept(boxes, scores, np.zeros(COUNT, bool), 0.5, 20) == []


def test_equal_scores_rank_by_index():
    boxes = np.tile(np.array([[0, 0, 10, 10]], np.float32), (6, 1))
    boxes[3:] += 100
    assert kept(boxes, np.full(6, 0.5, np.float32), np.ones(6, bool), 0.5, 6) == [0, 3]


def test_nan_scores_are_never_kept_and_suppress_nothing():
    boxes = np.tile(np.array([[0, 0, 10, 10]], np.float32), (4, 1))
    scores = np.array([np.nan, 0.2, np.nan, -np.inf], np.float32)
    assert kept(boxes, scores, np.ones(4, bool), 0.5, 4) == [1]


def test_boxes_left_of_and_above_the_image_count():
    boxes = np.array([[-50, -60, -30, -40], [-51, -60, -31, -40], [-1, -1, 0, 0]], np.float32)
    assert kept(boxes, np.array([0.9, 0.8, 0.7], np.float32), np.ones(3, bool), 0.5, 3) == [0, 2]


def test_classes_far_apart_lose_no_precision():
    """An offset per class, as in other libraries, would round the boxes of class 1,000."""
    rng = np.random.default_rng(5)
    boxes, scores = crowded(rng, COUNT, 3)
    boxes = boxes * np.float32(0.001) + np.float32(4096)
    groups = 1000 * rng.integers(0, 2, COUNT)
    everything = np.ones(COUNT, bool)
    expected = oracles.nms(boxes, scores, everything, 0.5, groups)
    assert kept(boxes, scores, everything, 0.5, COUNT, groups) == expected


@pytest.mark.parametrize("fill", [np.nan, np.inf, -np.inf, 1e30])
def test_fault_3_padding_rows_change_nothing(fill):
    boxes, scores = crowded(np.random.default_rng(6), COUNT)
    valid = np.arange(COUNT) < 100
    expected = oracles.nms(boxes[:100], scores[:100], valid, 0.5)
    boxes[100:] = fill
    scores[100:] = fill
    assert kept(boxes, scores, valid, 0.5, COUNT) == expected


def test_one_crowded_and_one_empty_image_in_a_batch():
    boxes, scores = crowded(np.random.default_rng(7), COUNT, 2)
    valid = np.stack([np.ones(COUNT, bool), np.zeros(COUNT, bool)])
    batched = jax.vmap(lambda b, s, v: nms(b, s, v, 0.3, 50))
    index, filled = batched(*(jnp.stack([x, x]) for x in (boxes, scores)), valid)
    assert list(index[0][filled[0]]) == oracles.nms(boxes, scores, valid[0], 0.3)[:50]
    assert not filled[1].any()


def test_more_outputs_than_boxes():
    boxes, scores = chain(3)
    assert kept(boxes, scores, np.ones(3, bool), 0.9, 8) == [0, 1, 2]


def test_is_torchvisions():
    torch = pytest.importorskip("torch")
    torchvision = pytest.importorskip("torchvision")
    rng = np.random.default_rng(8)
    corner = rng.uniform(0, 300, (500, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 90, (500, 2))], 1).astype(np.float32)
    scores = rng.permutation(500).astype(np.float32)
    for threshold in THRESHOLDS:
        expected = torchvision.ops.nms(torch.tensor(boxes), torch.tensor(scores), threshold)
        assert kept(boxes, scores, np.ones(500, bool), threshold, 500) == expected.tolist()
