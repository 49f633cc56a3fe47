"""Labels of every kind: parsing, transformation to another geometry, and output."""

import json

import numpy as np
import pytest
from mistakes import check_names, refused

from mtl_jax.attributes.base import Attribute, parse_labels
from mtl_jax.attributes.categorical import Categorical
from mtl_jax.attributes.continuous import Continuous
from mtl_jax.attributes.landmarks import Landmarks
from mtl_jax.attributes.ordinal import Ordinal
from mtl_jax.attributes.pose import Pose
from mtl_jax.images.geometry import Geometry

GENDER = Categorical("gender", classes=("male", "female"))
SIDE = Categorical("side", classes=("left", "front", "right"), flip=(("left", "right"),))
SIZE = Ordinal("size", classes=("s", "m", "l"), levels=(1.0, 2.0, 4.0))
AGE = Continuous("age", range=(0, 116))
HEAD = Pose("head", angles=("roll", "yaw", "pitch"))
FACE = Landmarks("face", points=("left", "nose", "right"), flip=(("left", "right"),))
ALL = (GENDER, SIDE, SIZE, AGE, HEAD, FACE)

READ = [
    # attribute, raw label -> values, known
    (GENDER, "female", [1], [1]),
    (GENDER, 0, [0], [1]),
    (GENDER, np.int64(1), [1], [1]),
    (SIZE, "l", [2], [1]),
    (SIZE, 2, [1], [1]),
    (SIZE, 4.0, [2], [1]),
    (AGE, 31, [31, 31], [1, 1]),
    (AGE, np.float32(31.5), [31.5, 31.5], [1, 1]),
    (AGE, (20, 29), [20, 29], [1, 1]),
    (AGE, [0, 116], [0, 116], [1, 1]),
    (HEAD, {"yaw": 10, "pitch": -20.5, "roll": 0}, [0, 10, -20.5], [1, 1, 1]),
    (HEAD, {"yaw": 10}, [0, 10, 0], [0, 1, 0]),
    (HEAD, {"yaw": None, "pitch": 5}, [0, 0, 5], [0, 0, 1]),
    (HEAD, (1, 2, 3), [1, 2, 3], [1, 1, 1]),
    (FACE, [(1, 2), (3, 4), (5, 6)], [1, 2, 0, 3, 4, 0, 5, 6, 0], [1, 1, 0] * 3),
    (FACE, [(1, 2), None, (5, 6)], [1, 2, 0, 0, 0, 0, 5, 6, 0], [1, 1, 0, 0, 0, 0, 1, 1, 0]),
    (FACE, [1, 2, 2, 3, 4, 1, 0, 0, 0], [1, 2, 1, 3, 4, 0, 0, 0, 0], [1] * 6 + [0] * 3),
    (FACE, [(1, 2, 2), (3, 4), (9, 9, 0)], [1, 2, 1, 3, 4, 0] + [0] * 3, [1] * 5 + [0] * 4),
    (FACE, np.arange(6).reshape(3, 2), [0, 1, 0, 2, 3, 0, 4, 5, 0], [1, 1, 0] * 3),
    (FACE, np.array([1, 2, 2, 3, 4, 1, 0, 0, 0], np.float32), [1, 2, 1, 3, 4] + [0] * 4, None),
]


@pytest.mark.parametrize(("attribute", "raw", "values", "known"), READ)
def test_labels_are_read(attribute, raw, values, known):
    got, got_known = attribute.parse(raw)
    assert got.dtype == np.float32
    assert got_known.dtype == bool
    assert got.shape == got_known.shape == (attribute.label_size,)
    np.testing.assert_array_equal(got, values)
    if known is not None:
        np.testing.assert_array_equal(got_known, np.array(known, bool))


@pytest.mark.parametrize("attribute", ALL)
def test_none_is_a_missing_label(attribute):
    values, known = attribute.parse(None)
    assert values.shape == known.shape == (attribute.label_size,)
    assert not known.any()


WRONG = [
    # attribute, raw label, and what the message names besides the attribute
    (GENDER, "woman", ("'woman'", "male", "female")),
    (GENDER, 2, (2, "male", "female")),
    (GENDER, True, (True, "male", "female")),
    (SIZE, 3, (3, "s", "m", "l")),
    (SIZE, [1], ("[1]",)),
    (AGE, 117, (117, 0, 116)),
    (AGE, -1, (-1, 0, 116)),
    (AGE, (30, 20), ((30, 20), 0, 116)),
    (AGE, "31", ("'31'",)),
    (AGE, True, (True,)),
    (AGE, float("nan"), ("nan",)),
    (HEAD, {"Yaw": 3}, ("Yaw", "yaw", "pitch", "roll")),
    (HEAD, {"yaw": 181}, ({"yaw": 181}, -180, 180)),
    (HEAD, (1, 2), ((1, 2), "roll", "yaw", "pitch")),
    (HEAD, {"yaw": "left"}, ("head.yaw", "'left'")),
    (HEAD, {"yaw": float("inf")}, ({"yaw": float("inf")}, -180, 180)),
    (FACE, [(1, 2)], (3,)),
    (FACE, [1, 2, 3], (3,)),
    (FACE, np.array([1, 2, 3], np.float32), (3,)),
    (FACE, [(1, 2, 3)] * 3, (3, 0, 1, 2)),
    (FACE, [(1, None)] * 3, (None,)),
    (FACE, [(1, 2, True)] * 3, (True,)),
    (FACE, [1, 2, False] * 3, (False,)),
    (FACE, [(1, float("nan"))] * 3, ("nan",)),
    (FACE, "points", (3,)),
    (FACE, ["ab", "cd", "ef"], (3,)),
]


@pytest.mark.parametrize(("attribute", "raw", "parts"), WRONG)
def test_errors_of_wrong_labels_name_the_attribute_and_the_label(attribute, raw, parts):
    with refused(attribute.name, *parts, error=ValueError):
        attribute.parse(raw)


def example(attribute: Attribute) -> tuple[np.ndarray, np.ndarray]:
    raw = {
        "gender": "female",
        "side": "left",
        "size": "m",
        "age": (20, 29),
        "head": (5, 10, 15),
        "face": [(10, 20, 2), (15, 25, 1), (20, 20)],
    }
    return attribute.parse(raw[attribute.name])


MIRROR = Geometry(-2.0, 3.0, 100.0, 5.0)
RESIZE = Geometry(2.0, 3.0, 10.0, 5.0)
MIRRORED = {
    "gender": [1],
    "side": [2],
    "size": [1],
    "age": [20, 29],
    "head": [-5, -10, 15],
    "face": [60, 65, 0, 70, 80, 0, 80, 65, 1],
}


@pytest.mark.parametrize("attribute", ALL, ids=lambda a: a.name)
def test_mirroring_exchanges_pairs_and_negates_angles(attribute):
    values, known = attribute.move(*example(attribute), MIRROR)
    np.testing.assert_array_equal(values, MIRRORED[attribute.name])
    assert known.sum() == example(attribute)[1].sum()
    if attribute is FACE:  # the right point's visibility was unknown
        np.testing.assert_array_equal(known, [1, 1, 0, 1, 1, 1, 1, 1, 1])


@pytest.mark.parametrize("attribute", ALL, ids=lambda a: a.name)
def test_resizing_moves_only_points(attribute):
    values, known = attribute.move(*example(attribute), RESIZE)
    expected, expected_known = example(attribute)
    if attribute is FACE:
        expected = [30, 65, 1, 40, 80, 0, 50, 65, 0]
    np.testing.assert_array_equal(values, expected)
    np.testing.assert_array_equal(known, expected_known)


@pytest.mark.parametrize("attribute", ALL, ids=lambda a: a.name)
@pytest.mark.parametrize("geometry", [MIRROR, RESIZE], ids=["mirror", "resize"])
def test_moving_back_restores_the_label(attribute, geometry):
    values, known = example(attribute)
    back = attribute.move(*attribute.move(values, known, geometry), geometry.inverse())
    np.testing.assert_allclose(back[0], values)
    np.testing.assert_array_equal(back[1], known)


@pytest.mark.parametrize("attribute", ALL, ids=lambda a: a.name)
def test_single_predictions_move_as_batches_do(attribute):
    rng = np.random.default_rng(0)
    predictions = rng.uniform(0, 9, (4, 5, attribute.prediction_size)).astype(np.float32)
    moved = attribute.move_prediction(predictions, MIRROR)
    assert moved.shape == predictions.shape
    np.testing.assert_allclose(moved[2, 3], attribute.move_prediction(predictions[2, 3], MIRROR))
    back = attribute.move_prediction(moved, MIRROR.inverse())
    np.testing.assert_allclose(back, predictions, atol=1e-5)


def test_mirrored_class_scores_follow_their_class():
    np.testing.assert_array_equal(
        SIDE.move_prediction(np.array([0.7, 0.2, 0.1]), MIRROR), [0.1, 0.2, 0.7]
    )
    np.testing.assert_array_equal(GENDER.move_prediction(np.array([0.7, 0.3]), MIRROR), [0.7, 0.3])


def test_points_outside_a_crop_are_not_visible_and_at_unknown_positions():
    values, known = FACE.parse([(10, 20, 2), (15, 25, 2), (20, 20)])
    values, known = FACE.crop(values, known, np.array([12.0, 0, 18, 30]))
    np.testing.assert_array_equal(values, [0, 0, 0, 15, 25, 1, 0, 0, 0])
    np.testing.assert_array_equal(known, [0, 0, 1, 1, 1, 1, 0, 0, 0])


@pytest.mark.parametrize("attribute", ALL[:-1], ids=lambda a: a.name)
def test_a_crop_does_not_change_the_other_kinds(attribute):
    values, known = attribute.crop(*example(attribute), np.zeros(4))
    np.testing.assert_array_equal(values, example(attribute)[0])
    np.testing.assert_array_equal(known, example(attribute)[1])


DESCRIBED = [
    (GENDER, [0.25, 0.75], {"label": "female", "scores": {"male": 0.25, "female": 0.75}}, "female"),
    (SIZE, [3.4], {"value": 3.4, "label": "l"}, "size l"),
    (SIZE, [2.6], {"value": 2.6, "label": "m"}, "size m"),
    (AGE, [30.6], {"value": 30.6}, "age 31"),
    (Continuous("smile"), [0.256], {"value": 0.256}, "smile 0.26"),
    (HEAD, [1, -20, 3], {"yaw": -20.0, "pitch": 3.0, "roll": 1.0}, "roll +1 yaw -20 pitch +3"),
    (FACE, [1, 2, 0.5] * 3, {"points": [[1.0, 2.0, 0.5]] * 3}, ""),
]


@pytest.mark.parametrize(("attribute", "prediction", "described", "caption"), DESCRIBED)
def test_predictions_are_written(attribute, prediction, described, caption):
    prediction = np.array(prediction, np.float32)
    assert json.loads(json.dumps(attribute.describe(prediction))) == described
    assert attribute.caption(prediction) == caption


def test_captions_of_labels_equal_those_of_predictions_and_show_intervals():
    assert AGE.caption_label(*AGE.parse(30)) == "age 30"
    check_names(AGE.caption_label(*AGE.parse((3, 9))), "age", 3, 9)
    assert GENDER.caption_label(*GENDER.parse("female")) == "female"


AS_PREDICTION = [
    (GENDER, "female", [0, 1]),
    (GENDER, None, [np.nan, np.nan]),
    (SIZE, "l", [4]),
    (AGE, [20, 30], [25]),
    (AGE, None, [np.nan]),
    (HEAD, {"yaw": 5}, [np.nan, 5, np.nan]),
    (FACE, [[1, 2, 2], None, [3, 4]], [1, 2, 1, np.nan, np.nan, np.nan, 3, 4, np.nan]),
]


@pytest.mark.parametrize(("attribute", "raw", "expected"), AS_PREDICTION)
def test_a_label_is_converted_to_the_correct_prediction(attribute, raw, expected):
    values, known = attribute.parse(raw)
    found = attribute.as_prediction(values, known)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.array(expected, np.float32))
    stacked = attribute.as_prediction(np.stack([values] * 3), np.stack([known] * 3))
    np.testing.assert_array_equal(stacked, np.stack([found] * 3))


@pytest.mark.parametrize(("attribute", "raw", "values", "known"), READ)
def test_an_annotation_is_parsed_as_its_original_label(attribute, raw, values, known):
    label = attribute.parse(raw)
    written = json.loads(json.dumps(attribute.annotate(*label)))
    for a, b in zip(attribute.parse(written), label, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
    assert attribute.annotate(*attribute.missing) is None


def test_an_annotated_number_stays_within_its_range():
    for low, high, raw in ((0, 0.12346, 0.12346), (1e-5, 1, 1e-5), (0, 1e-4, (2e-5, 7e-5))):
        attribute = Continuous("x", range=(low, high))
        label = attribute.parse(raw)
        again = attribute.parse(attribute.annotate(*label))
        np.testing.assert_allclose(again[0], label[0], rtol=1e-6)


def test_labels_of_an_instance_are_parsed_and_a_wrong_one_names_its_attribute():
    labels = parse_labels((GENDER, AGE, HEAD), {"age": 31, "head": None, "other": 3})
    assert labels.keys() == {"age"}
    np.testing.assert_array_equal(labels["age"][0], [31, 31])
    with refused("attribute age", 300, 0, 116, error=ValueError):
        parse_labels((GENDER, AGE), {"gender": "male", "age": 300})
