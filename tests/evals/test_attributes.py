import math

import numpy as np
import pytest

from mtl_jax.attributes.base import Labels, parse_labels
from mtl_jax.attributes.declarations import from_config
from mtl_jax.data.records import Instance, Record
from mtl_jax.evals.attributes import gather, stack

CATEGORICAL, ORDINAL, CONTINUOUS, POSE, LANDMARKS = from_config(
    {
        "hair": {"kind": "categorical", "classes": ("dark", "fair", "none")},
        "range": {"kind": "ordinal", "classes": ("low", "mid", "high"), "levels": (0, 10, 40)},
        "age": {"kind": "continuous", "range": (0, 116)},
        "head": {"kind": "pose", "angles": ("yaw", "pitch")},
        "face": {"kind": "landmarks", "points": ("a", "b", "c")},
    }
)


def labels(attribute, raws, box=(0, 0, 10, 10)):
    return stack(attribute, [(*attribute.parse(raw), box) for raw in raws])


def test_continuous_error_is_to_the_nearer_end_of_an_interval():
    truth = labels(CONTINUOUS, [30, (20, 30), (20, 30), (20, 30), None])
    predictions = np.array([[33.0], [25.0], [18.0], [37.0], [99.0]])
    errors = [3, 0, 2, 7]
    mean = sum(errors) / 4
    std = math.sqrt(sum((e - mean) ** 2 for e in errors) / 4)
    assert CONTINUOUS.score(predictions, truth) == pytest.approx({"mae": mean, "std": std})


def test_angle_errors_wrap_at_360_degrees_and_count_known_angles():
    truth = labels(POSE, [{"yaw": 175, "pitch": 10}, {"yaw": -10}])
    values = POSE.score(np.array([[-175.0, 20.0], [10.0, 80.0]]), truth)
    assert values == pytest.approx({"yaw/mae": 15, "yaw/std": 5, "pitch/mae": 10, "pitch/std": 0})


def test_ordinal_is_scored_in_its_levels():
    truth = labels(ORDINAL, ["low", "mid", "high", None])
    values = ORDINAL.score(np.array([[3.0], [26.0], [40.0], [0.0]]), truth)
    assert values["mae"] == pytest.approx((3 + 16 + 0) / 3)
    assert values["accuracy"] == pytest.approx(2 / 3)


def test_categorical_equals_counting():
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 3, 50), rng.integers(0, 3, 50)
    values = CATEGORICAL.score(np.eye(3)[predicted], labels(CATEGORICAL, [int(t) for t in truth]))
    f1 = []
    for k in range(3):
        pairs = list(zip(truth, predicted, strict=True))
        right = sum(t == p == k for t, p in pairs)
        precision = right / sum(p == k for _, p in pairs)
        recall = right / sum(t == k for t, _ in pairs)
        f1.append(2 * precision * recall / (precision + recall))
    accuracy = sum(t == p for t, p in zip(truth, predicted, strict=True)) / 50
    assert values == pytest.approx({"accuracy": accuracy, "macro_f1": sum(f1) / 3})


def test_macro_f1_leaves_classes_out_that_are_neither_labelled_nor_predicted():
    values = CATEGORICAL.score(np.eye(3)[[0, 1]], labels(CATEGORICAL, ["dark", "fair"]))
    assert values == {"accuracy": 1.0, "macro_f1": 1.0}


def test_nme_is_over_known_points_and_the_box():
    truth = labels(LANDMARKS, [[(0, 0, 2), (4, 4, 1), None], [(1, 1), None, None]], (0, 0, 4, 9))
    guess = [[3, 4, 0.9, 4, 4, 0.8, 99, 99, 0.9], [1, 7, 0.1, 0, 0, 0, 0, 0, 0]]
    values = LANDMARKS.score(np.array(guess), truth)
    first, second = (5 + 0) / 2 / 6, 6 / 6
    assert values["nme"] == pytest.approx((first + second) / 2)
    # Two points of the first label; the other visibilities are unknown.
    assert values["accuracy"] == pytest.approx(0.5)


def test_nme_does_not_depend_on_the_images_scale():
    truth = labels(LANDMARKS, [[(1, 2), (4, 4), (3, 1)]], (0, 0, 8, 5))
    guess = np.array([[1.5, 2, 1, 4, 6, 1, 2, 1, 1.0]])
    scale = np.array([7, 7, 1] * 3)
    larger = Labels(truth.values * scale, truth.known, truth.boxes * 7)
    assert LANDMARKS.score(guess, truth) == pytest.approx(LANDMARKS.score(guess * scale, larger))


@pytest.mark.parametrize("attribute", [CATEGORICAL, ORDINAL, CONTINUOUS, POSE, LANDMARKS])
def test_without_labels_there_is_no_metric(attribute):
    empty = np.zeros((0, attribute.prediction_size))
    assert attribute.score(empty, labels(attribute, [])) == {}
    unknown = labels(attribute, [None, None])
    assert attribute.score(np.ones((2, attribute.prediction_size)), unknown) == {}
    assert attribute.score_constant(unknown, unknown) == {}


@pytest.mark.parametrize("attribute", [CATEGORICAL, ORDINAL, CONTINUOUS, POSE, LANDMARKS])
def test_a_right_prediction_has_no_error(attribute):
    raw, prediction = {
        "hair": ("fair", [0.1, 0.8, 0.1]),
        "range": ("mid", [10]),
        "age": (33, [33]),
        "head": ((5, -5), [5, -5]),
        "face": ([(1, 2, 2), (3, 4, 1), (5, 6, 2)], [1, 2, 0.9, 3, 4, 0.2, 5, 6, 0.8]),
    }[attribute.name]
    for name, value in attribute.score(np.array([prediction]), labels(attribute, [raw])).items():
        assert value == (1 if name in ("accuracy", "macro_f1") else 0)


def test_trivial_continuous_is_the_best_constant():
    rng = np.random.default_rng(1)
    train = labels(CONTINUOUS, [float(v) for v in rng.gamma(3, 10, 51).clip(0, 116)])
    trivial = CONTINUOUS.score_constant(train, train)["mae"]
    for constant in range(117):
        guess = np.full((51, 1), float(constant))
        assert trivial <= CONTINUOUS.score(guess, train)["mae"] + 1e-9


def test_trivial_of_classes_is_the_majority():
    train = labels(CATEGORICAL, ["fair", "fair", "dark"])
    test = labels(CATEGORICAL, ["fair", "dark", "dark", "none"])
    assert CATEGORICAL.score_constant(train, test)["accuracy"] == 0.25
    train = labels(ORDINAL, ["low", "low", "mid", "high", "high", "high", "mid"])
    values = ORDINAL.score_constant(train, labels(ORDINAL, ["high", "low"]))
    assert values["accuracy"] == 0.5  # high
    assert values["mae"] == pytest.approx((30 + 10) / 2)  # from mid, the median


def test_trivial_pose_is_the_median_of_each_known_angle():
    train = labels(POSE, [(0, 10), (20, 30), {"yaw": 40}])
    values = POSE.score_constant(train, labels(POSE, [(25, 0)]))
    assert values["yaw/mae"] == 5
    assert values["pitch/mae"] == 20


def test_trivial_landmarks_are_at_the_mean_position_in_the_box():
    train = labels(LANDMARKS, [[(2, 5, 2), (8, 5, 2), (5, 8, 1)]])
    box = (100, 100, 120, 140)
    test = labels(LANDMARKS, [[(104, 120, 2), (116, 120, 1), (110, 132, 1)]], box)
    values = LANDMARKS.score_constant(train, test)
    assert values["nme"] == pytest.approx(0, abs=1e-7)
    assert values["accuracy"] == pytest.approx(2 / 3)


def test_gather_takes_every_label_but_those_of_crowds():
    instances = (
        Instance((0, 0, 5, 5), 1, attributes=parse_labels([CONTINUOUS], {"age": 20})),
        Instance((0, 0, 6, 6), 1),
        Instance((0, 0, 7, 7), 1, attributes=parse_labels([CONTINUOUS], {"age": 40}), crowd=True),
        Instance((0, 0, 8, 8), 1, attributes=parse_labels([CONTINUOUS], {"age": (1, 2)})),
    )
    record = Record(np.zeros((9, 9, 3), np.uint8), 9, 9, 0, "a.png", instances)
    (found,) = gather([CONTINUOUS], [record, record])
    assert found.values.tolist() == [[20, 20], [1, 2]] * 2
    assert found.boxes[:, 2].tolist() == [5, 8, 5, 8]
