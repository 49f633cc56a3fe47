import json
from dataclasses import replace

import numpy as np
import pytest
from mistakes import refused

from mtl_jax.attributes.base import parse_labels
from mtl_jax.attributes.declarations import from_config
from mtl_jax.config.options.evaluation import EvalOptions, higher_is_better
from mtl_jax.data.records import Category, Instance, Record
from mtl_jax.evals.accumulate import Evaluator
from mtl_jax.results import Result

CATEGORIES = (Category(5, "cat"), Category(9, "dog"))
ATTRIBUTES = from_config(
    {
        "age": {"kind": "continuous", "range": (0, 30)},
        "head": {"kind": "pose", "angles": ("yaw", "pitch")},
    }
)
TEN = parse_labels(ATTRIBUTES, {"age": 10})
BOXES = ((0, 0, 20, 20), (40, 40, 80, 80), (0, 50, 30, 90))


def record_of(*instances, exhaustive=True):
    pixels = np.zeros((100, 100, 3), np.uint8)
    return Record(pixels, 100, 100, 0, "a.png", instances, exhaustive)


def result_of(*found):
    """Make a result of (box, score, class, age)."""
    boxes, scores, classes, ages = zip(*found, strict=True) if found else ([], [], [], [])
    return Result(
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        scores=np.array(scores, np.float32),
        classes=np.array(classes, int),
        class_names=tuple(CATEGORIES[c - 1].name for c in classes),
        category_ids=np.array([CATEGORIES[c - 1].id for c in classes], int),
        height=100,
        width=100,
        attributes={
            "age": np.array(ages, np.float32).reshape(-1, 1),
            "head": np.zeros((len(ages), 2), np.float32),
        },
        declared=ATTRIBUTES,
    )


def evaluate(*pairs, **options):
    evaluator = Evaluator(CATEGORIES, ATTRIBUTES, EvalOptions(**options))
    for record, result in pairs:
        evaluator.add(record, result)
    metrics = evaluator.metrics()
    assert all(type(value) is float for value in metrics.values())
    json.dumps(metrics, allow_nan=False)
    return metrics


def test_instances_labels_misses_and_errors():
    record = record_of(
        Instance(BOXES[0], 1, attributes=parse_labels(ATTRIBUTES, {"age": 10, "head": {"yaw": 5}})),
        Instance(BOXES[1], 1, attributes=parse_labels(ATTRIBUTES, {"age": 20})),
        Instance(BOXES[2], 2),
    )
    result = result_of((BOXES[0], 0.9, 1, 13), (BOXES[1], 0.8, 2, 20), (BOXES[2], 0.7, 2, 1))
    metrics = evaluate((record, result))
    # The second was detected as another class: a miss for its age, and a false positive.
    assert metrics["age/instances"] == 3
    assert metrics["age/labelled"] == 2
    assert metrics["age/misses"] == 1
    assert metrics["age/mae"] == pytest.approx(3)
    assert metrics["detections/false_alarms"] == 1
    assert metrics["head/labelled"] == 1
    assert metrics["head/yaw/mae"] == pytest.approx(5)
    assert "head/pitch/mae" not in metrics


def test_the_attribute_is_taken_from_the_higher_score():
    record = record_of(Instance(BOXES[0], 1, attributes=TEN))
    near = (0, 0, 20, 19)
    metrics = evaluate((record, result_of((near, 0.9, 1, 11), (BOXES[0], 0.8, 1, 30))))
    assert metrics["age/mae"] == pytest.approx(1)
    assert metrics["detections/false_alarms"] == 1


def test_crowds_are_neither_instances_nor_misses_nor_false_positives():
    record = record_of(Instance(BOXES[1], 1, crowd=True, attributes=TEN))
    metrics = evaluate((record, result_of(((45, 45, 60, 60), 0.9, 1, 3))))
    assert metrics["age/instances"] == 0
    assert metrics["age/labelled"] == 0
    assert metrics["age/misses"] == 0
    assert metrics["detections/false_alarms"] == 0


def test_images_that_are_not_exhaustive_have_only_attribute_metrics():
    record = record_of(Instance(BOXES[0], 1, attributes=TEN), exhaustive=False)
    result = result_of((BOXES[0], 0.9, 1, 12), (BOXES[1], 0.8, 1, 3))
    metrics = evaluate((record, result))
    assert metrics["age/mae"] == pytest.approx(2)
    assert "detections/false_alarms" not in metrics
    assert not any(name.startswith(("box/", "mask/")) for name in metrics)
    both = evaluate((record, result), (record_of(Instance(BOXES[0], 1)), result_of()))
    assert both["box/AP"] == 0
    assert both["detections/false_alarms"] == 0


def test_detections_of_classes_that_are_not_labelled_have_no_part():
    record = record_of(Instance(BOXES[0], 1))
    found = result_of((BOXES[0], 0.9, 1, 10), (BOXES[1], 0.95, 2, 10))
    labelled = evaluate((record, found))
    assert labelled["detections/false_alarms"] == 1
    partly = evaluate((replace(record, unlabelled=(2,)), found))
    assert partly["detections/false_alarms"] == 0
    assert partly["box/AP"] == pytest.approx(1.0)


def test_scores_that_count():
    record = record_of(Instance(BOXES[0], 1, attributes=TEN))
    result = result_of((BOXES[0], 0.4, 1, 12), (BOXES[1], 0.3, 1, 3))
    assert evaluate((record, result))["age/misses"] == 0
    assert evaluate((record, result))["detections/false_alarms"] == 0
    assert evaluate((record, result), match_score=0.5)["age/misses"] == 1
    assert evaluate((record, result), alarm_score=0.1)["detections/false_alarms"] == 1
    # Between the limits: a correct detection, whose score is too low for its age to count.
    crowd = record_of(*record.instances, Instance(BOXES[1], 1, crowd=True))
    limits = dict(match_score=0.5, alarm_score=0.2)
    assert evaluate((crowd, result), **limits)["detections/false_alarms"] == 0


def test_overlap_that_counts():
    record = record_of(Instance((0, 0, 20, 20), 1, attributes=TEN))
    result = result_of(((0, 0, 20, 12), 0.9, 1, 12))
    assert evaluate((record, result))["age/misses"] == 0
    assert evaluate((record, result), iou_threshold=0.7)["age/misses"] == 1


def test_nothing_to_evaluate():
    metrics = evaluate()
    assert metrics["age/instances"] == 0
    assert not any(name.endswith(("mae", "AP")) for name in metrics)


def test_a_result_of_another_image_is_refused():
    record = Record(np.zeros((9, 9, 3), np.uint8), 9, 9, 0, "b.png")
    with refused("b.png", "9 x 9", error=ValueError):
        evaluate((record, result_of()))


def test_which_metrics_are_higher_for_a_better_model():
    assert higher_is_better("box/AP/cat")
    assert higher_is_better("hair/macro_f1")
    assert not higher_is_better("head/yaw/mae")
    assert not higher_is_better("detections/false_alarms")


def test_detections_on_ignored_boxes_are_no_false_alarms():
    record = replace(record_of(Instance(BOXES[0], 1, attributes=TEN)), ignored=(BOXES[1],))
    found = result_of((BOXES[1], 0.9, 2, 1), (BOXES[0], 0.8, 1, 10), (BOXES[2], 0.7, 2, 1))
    metrics = evaluate((record, found))
    assert metrics["detections/false_alarms"] == 1
    assert metrics["age/instances"] == 1
    assert metrics["box/AP"] == pytest.approx(1)
