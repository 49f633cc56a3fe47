"""Confusions, calibration and the worst images, on cases computed by hand."""

from dataclasses import replace

import numpy as np
from mistakes import check_faults, check_names

from mtl_jax.config.options.evaluation import EvalOptions
from mtl_jax.data.records import Category, Instance, Record
from mtl_jax.evals.error_analysis import WORST, ErrorAnalysis, explain
from mtl_jax.results import Result

CATEGORIES = (Category(1, "cat"), Category(2, "dog"), Category(3, "cow"))
PIXELS = np.zeros((100, 100, 3), np.uint8)
A, B, C = (0, 0, 20, 20), (40, 40, 70, 70), (80, 80, 95, 95)


def record(*objects, exhaustive=True):
    instances = tuple(Instance(box, label, crowd=crowd) for box, label, crowd in objects)
    return Record(PIXELS, 100, 100, 1, "a.png", instances, exhaustive)


def result(*found):
    boxes = np.array([box for box, _, _ in found], np.float32).reshape(-1, 4)
    classes = np.array([label for _, label, _ in found], np.int64)
    scores = np.array([score for _, _, score in found], np.float32)
    names = tuple(CATEGORIES[c - 1].name for c in classes)
    return Result(boxes, scores, classes, names, classes, 100, 100)


def test_a_confusion_counts_hits_misses_and_false_positives():
    analysis = ErrorAnalysis(CATEGORIES)
    objects = ((A, 1, False), (B, 2, False), (C, 3, False))
    analysis.add(record(*objects), result((A, 1, 0.9), (B, 1, 0.8), ((0, 50, 20, 70), 2, 0.7)))
    table = np.zeros((4, 4), int)
    table[1, 1] = 1  # the cat
    table[2, 1] = 1  # the dog detected as a cat
    table[3, 0] = 1  # the cow missed
    table[0, 2] = 1  # a dog where there is nothing
    np.testing.assert_array_equal(analysis.confusion, table)
    assert analysis.right == [True, False, False]
    np.testing.assert_allclose(analysis.best_overlaps, [1, 1, 0])
    (case,) = analysis.worst
    assert (case.misses, case.false_alarms) == (2, 2)


def test_low_scores_count_for_calibration_and_not_as_false_positives():
    analysis = ErrorAnalysis(CATEGORIES)
    analysis.add(record((A, 1, False)), result((A, 1, 0.9), (B, 1, 0.3)))
    assert analysis.confusion.sum() == 1
    np.testing.assert_allclose(analysis.scores, [0.9, 0.3], rtol=1e-6)
    assert analysis.right == [True, False]
    assert analysis.worst == []


def test_crowds_are_excluded():
    analysis = ErrorAnalysis(CATEGORIES)
    analysis.add(record((B, 1, True)), result(((42, 42, 60, 60), 1, 0.9)))
    assert analysis.confusion.sum() == 0
    assert analysis.scores == []
    assert analysis.best_overlaps == []


def test_images_that_are_not_exhaustive_have_no_false_positives():
    analysis = ErrorAnalysis(CATEGORIES)
    analysis.add(record((A, 1, False), exhaustive=False), result((A, 1, 0.9), (B, 1, 0.9)))
    assert analysis.confusion.sum() == 1
    assert analysis.scores == []


def test_detections_of_classes_that_are_not_labelled_are_not_false_positives():
    analysis = ErrorAnalysis(CATEGORIES)
    analysis.add(replace(record(), unlabelled=(1,)), result((A, 1, 0.9), (B, 2, 0.8)))
    assert analysis.confusion[0].tolist() == [0, 0, 1, 0]


def test_the_worst_images_are_kept():
    analysis = ErrorAnalysis(CATEGORIES)
    for count in (*range(1, 12), 0):
        objects = tuple(((i, 0, i + 5, 5), 1, False) for i in range(0, 7 * count, 7))
        analysis.add(record(*objects), result())
    assert [case.misses for case in analysis.worst] == list(range(11, 11 - WORST, -1))


def test_an_empty_image_is_accepted():
    analysis = ErrorAnalysis(CATEGORIES)
    analysis.add(record(), result())
    assert analysis.confusion.sum() == 0


def why(objects, found, value, exhaustive=True):
    analysis = ErrorAnalysis(CATEGORIES)
    analysis.add(record(*objects, exhaustive=exhaustive), result(*found))
    metrics = {"box/AP/dog": 1.0, "box/AP/cow": 1.0}
    if value is not None:
        metrics["box/AP/cat"] = value
    (line,) = explain(analysis, metrics)
    return line


def test_an_average_precision_of_zero_is_explained():
    cat = ((A, 1, False),)
    lines = [
        why((), ((A, 2, 0.9),), None),
        why(cat, (), None, exhaustive=False),
        why(cat, (), 0.0),
        why(cat, ((A, 2, 0.9),), 0.0),
        why(cat, ((B, 2, 0.9),), 0.0),
        why(cat, (((0, 0, 10, 10), 1, 0.9),), 0.0),
    ]
    assert len(set(lines)) == 6
    named = ((), ("exhaustive",), ("model.detection.score_threshold",), ("dog",), (), (0.25,))
    check_faults(lines, *(("box", "AP", "cat", *parts) for parts in named))


def test_a_class_is_explained_by_its_own_boxes_and_masks_by_masks():
    analysis = ErrorAnalysis(CATEGORIES[:2])
    small = (40, 40, 50, 70)
    analysis.add(
        record((A, 1, False), (C, 1, False), (B, 2, False)),
        result((A, 1, 0.9), (C, 1, 0.9), (small, 2, 0.9)),
    )
    metrics = {"box/AP/cat": 0.9, "box/AP/dog": 0.0, "mask/AP/cat": 0.0, "mask/AP": 0.0}
    box, mask, dog = explain(analysis, metrics)
    check_names(box, "box", "AP", "dog", 0.33)
    check_names(mask, "mask", "AP", "cat")
    check_names(dog, "mask", "AP", "dog")
    assert mask.partition("cat")[2] != dog.partition("dog")[2]
    masked = {"box/AP/cat": 0.9, "box/AP/dog": 0.9, "mask/accuracy": 0.7}  # an attribute's accuracy
    assert explain(analysis, masked) == []
    metrics = {"box/AP/cat": 0.9, "box/AP/dog": 0.9, "mask/AP": 0.5, "mask/AP/cat": 0.5}
    assert explain(analysis, metrics) == [dog]
    metrics["box/AP/dog"] = 0.0
    assert explain(analysis, metrics)[1:] == [dog]


def test_images_without_an_average_precision_are_not_used_to_explain_one():
    analysis = ErrorAnalysis(CATEGORIES[:1])
    analysis.add(record((A, 1, False)), result())
    analysis.add(record((A, 1, False), exhaustive=False), result((A, 1, 0.9)))
    (line,) = explain(analysis, {"box/AP/cat": 0.0})
    check_names(line, "box", "AP", "cat", "model.detection.score_threshold")
    analysis.add(record((A, 1, False)), result((B, 1, 0.9)))
    (line,) = explain(analysis, {"box/AP/cat": 0.0})
    check_names(line, "box", "AP", "cat", "0.00")


def test_scores_and_overlaps_count_according_to_the_options():
    analysis = ErrorAnalysis(CATEGORIES, EvalOptions(alarm_score=0.3, iou_threshold=0.3))
    analysis.add(record((A, 1, False)), result(((0, 0, 20, 8), 1, 0.35), (B, 1, 0.4)))
    assert analysis.right == [True, False]
    (case,) = analysis.worst
    assert (case.misses, case.false_alarms) == (0, 1)
    assert case.result.draw_score == 0.3


def test_a_good_model_needs_no_explanation():
    analysis = ErrorAnalysis(CATEGORIES)
    assert explain(analysis, {f"box/AP/{category.name}": 0.5 for category in CATEGORIES}) == []


def test_detections_on_ignored_boxes_are_no_errors():
    analysis = ErrorAnalysis(CATEGORIES)
    seen = replace(record((A, 1, False)), ignored=(B,))
    analysis.add(seen, result((A, 1, 0.9), (B, 1, 0.8), (B, 2, 0.7)))
    assert analysis.confusion.sum() == 1
    assert analysis.right == [True]
    assert not analysis.worst
    analysis.add(seen, result((C, 1, 0.9)))
    (case,) = analysis.worst
    assert (case.misses, case.false_alarms) == (1, 1)
