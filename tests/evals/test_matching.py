import numpy as np
import pytest

from mtl_jax.data.records import Instance, Record, overlaps
from mtl_jax.evals.matching import Truth, match


def iou(a, b):
    w = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    h = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    common = w * h
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
    return common / union if union > 0 else 0.0


def match_slowly(boxes, scores, classes, gt_boxes, gt_classes, gt_crowd, threshold):
    """Match the detections one after another."""
    found, taken = [-1] * len(boxes), set()
    for i in sorted(range(len(boxes)), key=lambda i: (-scores[i], i)):
        best = threshold
        for j in range(len(gt_boxes)):
            if j in taken or gt_crowd[j] or gt_classes[j] != classes[i]:
                continue
            value = iou(boxes[i], gt_boxes[j])
            if value >= best and (found[i] < 0 or value > best):
                best, found[i] = value, j
        taken.add(found[i])
        taken.discard(-1)
    return found


def random_boxes(rng, count):
    corners = rng.integers(0, 12, (count, 2))
    return np.concatenate([corners, corners + rng.integers(0, 9, (count, 2))], 1).astype(float)


@pytest.mark.parametrize("seed", range(20))
def test_match_equals_slow_match(seed):
    rng = np.random.default_rng(seed)
    num_detections, num_gt = rng.integers(0, 15), rng.integers(0, 10)
    arguments = (
        random_boxes(rng, num_detections),
        rng.integers(0, 5, num_detections) / 4,  # with ties
        rng.integers(1, 3, num_detections),
        random_boxes(rng, num_gt),
        rng.integers(1, 3, num_gt),
        rng.random(num_gt) < 0.2,
    )
    threshold = rng.choice([0.3, 0.5])
    found = match(*arguments[:3], Truth(*arguments[3:]), threshold).gt_index
    assert found.tolist() == match_slowly(*arguments, threshold)
    used = found[found >= 0]
    assert len(set(used.tolist())) == len(used)


def test_overlaps_equal_the_definition():
    rng = np.random.default_rng(0)
    a, b = random_boxes(rng, 30), random_boxes(rng, 20)
    expected = [[iou(x, y) for y in b] for x in a]
    np.testing.assert_allclose(overlaps(a, b)[0], expected)


def test_detections_on_a_crowd_are_ignored_and_unmatched():
    box = np.array([[0.0, 0.0, 100.0, 100.0]])
    crowd = Truth(box, np.array([1]), np.array([True]))
    boxes = np.array([[10, 10, 20, 20], [95, 95, 115, 115], [10, 10, 20, 20]], float)
    classes = np.array([1, 1, 2])
    matched = match(boxes, np.ones(3), classes, crowd)
    assert matched.gt_index.tolist() == [-1, -1, -1]
    assert matched.ignored.tolist() == [True, False, False]


def test_detections_of_any_class_on_an_ignored_box_are_ignored():
    record = Record(
        np.zeros((99, 99, 3), np.uint8),
        *(99, 99, 1, "a"),
        (Instance((50, 50, 60, 60), 2),),
        ignored=((0, 0, 30, 30),),
    )
    boxes = np.array([[1, 1, 30, 29], [2, 0, 30, 30], [50, 50, 60, 60], [70, 70, 90, 90]], float)
    matched = match(boxes, np.ones(4), np.array([1, 2, 2, 1]), Truth.of(record))
    assert matched.gt_index.tolist() == [-1, -1, 0, -1]
    assert matched.ignored.tolist() == [True, True, False, False]
