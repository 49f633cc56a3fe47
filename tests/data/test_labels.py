"""How an annotation's keys become labels: scales, offsets, other classes, texts and truths."""

import pytest

from mtl_jax import attributes as attribute_kinds
from mtl_jax.data.labels import LabelReader

DECLARED = attribute_kinds.from_config(
    {
        "age": dict(kind="continuous", range=(0, 100)),
        "sex": dict(kind="categorical", classes=("male", "female")),
        "glasses": dict(kind="categorical", classes=("no", "yes")),
        "head": dict(kind="pose", angles=("yaw", "pitch")),
    }
)


@pytest.mark.parametrize(("raw", "zero", "one"), [(0, 0, 1), (0, "0", "1"), ("0", "0", "1")])
def test_classes_by_number_are_those_that_the_keys_give(raw, zero, one):
    keys = {zero: "female", one: "male"}
    reader = LabelReader(DECLARED, {"sex": ("gender", keys)})
    assert reader.read({"gender": raw}) == ({"sex": "female"}, [])


def test_a_negative_scale_turns_an_interval_and_no_angles():
    keys = {"age": ("born", -1, 100), "head": ("angles", -1)}
    labels, faults = LabelReader(DECLARED, keys).read({"born": [20, 30], "angles": [30, -10]})
    assert faults == []
    assert labels == {"age": [70, 80], "head": [-30, 10]}


def test_a_key_that_is_given_stands_above_a_preset():
    reader = LabelReader(DECLARED, {"head": "angles"}, "mtl_mrcnn")
    assert reader.read({"angles": [5, 6], "Yaw": 80, "Pitch": 70}) == ({"head": [5, 6]}, [])


def test_texts_and_truths_are_read_as_the_data_page_suggests():
    labels, faults = LabelReader(DECLARED).read({"age": "34", "glasses": True, "sex": ""})
    assert faults == []
    assert labels == {"age": 34, "glasses": 1}
