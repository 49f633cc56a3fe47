"""Labels read from the keys of annotations: scales, offsets, mapped classes, text and booleans."""

import json

import pytest
from annotated import labels_of

from mtl_jax.attributes import declarations as attribute_kinds
from mtl_jax.data.readers.labels import LabelReader
from mtl_jax.data.records import Instance

DECLARED = attribute_kinds.from_config(
    {
        "age": dict(kind="continuous", range=(0, 100)),
        "sex": dict(kind="categorical", classes=("male", "female")),
        "glasses": dict(kind="categorical", classes=("no", "yes")),
        "head": dict(kind="pose", angles=("yaw", "pitch")),
    }
)


def read(reader, annotation):
    """Return the labels as they are annotated, and the faults."""
    labels, faults = reader.read(annotation)
    assert labels.keys() <= {attribute.name for attribute in reader.attributes}
    return labels_of(Instance((0, 0, 1, 1), 1, attributes=labels), reader.attributes), faults


@pytest.mark.parametrize(("raw", "zero", "one"), [(0, 0, 1), (0, "0", "1"), ("0", "0", "1")])
def test_numbers_are_mapped_to_the_classes_of_the_keys(raw, zero, one):
    keys = {zero: "female", one: "male"}
    reader = LabelReader(DECLARED, {"sex": ("gender", keys)})
    assert read(reader, {"gender": raw}) == ({"sex": "female"}, [])


def test_a_negative_scale_turns_an_interval_and_no_angles():
    keys = {"age": ("born", -1, 100), "head": ("angles", -1)}
    labels, faults = read(LabelReader(DECLARED, keys), {"born": [20, 30], "angles": [30, -10]})
    assert faults == []
    assert labels == {"age": [70, 80], "head": {"yaw": -30, "pitch": 10}}


def test_a_key_overrides_a_preset():
    reader = LabelReader(DECLARED, {"head": "angles"}, "mtl_mrcnn")
    labels, faults = read(reader, {"angles": [5, 6], "Yaw": 80, "Pitch": 70})
    assert (labels, faults) == ({"head": {"yaw": 5, "pitch": 6}}, [])


def test_text_and_booleans_are_read_as_the_data_page_suggests():
    labels, faults = read(LabelReader(DECLARED), {"age": "34", "glasses": True, "sex": ""})
    assert faults == []
    assert labels == {"age": 34, "glasses": "yes"}


@pytest.mark.parametrize("raw", [3, 3.0, "3"])
def test_a_number_is_the_class_that_has_its_name(raw):
    declared = attribute_kinds.from_config(
        {
            "stars": dict(kind="categorical", classes=("1", "2", "3")),
            "grade": dict(kind="ordinal", classes=("3", "2", "1"), levels=(1, 2, 3)),
        }
    )
    labels, faults = read(LabelReader(declared), {"stars": raw, "grade": raw})
    assert (labels, faults) == ({"stars": "3", "grade": "3"}, [])
    for attribute in declared:  # as in a source without a reader
        assert attribute.parse(3)[0] == attribute.parse("3")[0]


@pytest.mark.parametrize("classes", [("true", "false"), ("False", "True"), ("1", "0")])
def test_a_boolean_is_the_class_that_has_its_name(classes):
    (wears,) = attribute_kinds.from_config({"wears": dict(kind="categorical", classes=classes)})
    (label,) = read(LabelReader([wears]), {"wears": True})[0].values()
    assert label in ("true", "True", "1")
    assert wears.parse(True) == wears.parse(label)


def test_booleans_are_mapped_to_the_classes_of_the_keys_also_from_json():
    keys = {"glasses": ("worn", {True: "no", False: "yes"})}
    for given in (keys, json.loads(json.dumps(keys))):
        reader = LabelReader(DECLARED, given)
        assert read(reader, {"worn": True}) == ({"glasses": "no"}, [])
        assert read(reader, {"worn": False}) == ({"glasses": "yes"}, [])
