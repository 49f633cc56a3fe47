"""Attributes built from a config, and mistakes in their declarations."""

import pytest
from mistakes import refused

from mtl_jax.attributes import declarations as attributes
from mtl_jax.attributes.ordinal import Ordinal

DECLARED = {
    "age": {"kind": "continuous", "range": (0, 116), "weight": 2.0, "loss": "l1"},
    "gender": {"kind": "categorical", "classes": ("male", "female")},
    "size": {"kind": "ordinal", "classes": ("s", "m")},
    "head": {"kind": "pose", "angles": ("yaw", "pitch")},
    "face": {"kind": "landmarks", "points": ("a", "b"), "flip": (("a", "b"),)},
}


def test_a_config_declares_attributes_in_its_order():
    built = attributes.from_config(DECLARED)
    assert [a.name for a in built] == list(DECLARED)
    assert [a.kind for a in built] == [options["kind"] for options in DECLARED.values()]
    assert [a.label_size for a in built] == [2, 1, 1, 2, 6]
    assert [a.prediction_size for a in built] == [1, 2, 1, 2, 6]
    assert (built[0].weight, built[0].loss) == (2.0, "l1")
    assert built[1].loss == "cross_entropy"
    assert built[2] == Ordinal("size", classes=("s", "m"), levels=(0.0, 1.0))


AB = ("a", "b")
MISTAKES = [
    # options, and what the message names besides the attribute
    ({"kind": "catgorical"}, ("kind", *attributes.KINDS)),
    ({}, ("kind", *attributes.KINDS)),
    ({"kind": "categorical", "clases": ("a", "b")}, ("clases", "classes")),
    ({"kind": "categorical", "classes": ("a",)}, ("classes",)),
    ({"kind": "categorical", "classes": ("cat", "cat")}, ("cat",)),
    ({"kind": "categorical", "classes": AB, "flip": (("a", "c"),)}, ("flip", ("a", "c"))),
    ({"kind": "categorical", "classes": AB, "loss": "l2"}, ("loss", "'l2'", "cross_entropy")),
    ({"kind": "ordinal", "classes": AB, "levels": (2, 1)}, ("levels",)),
    ({"kind": "continuous", "range": (3, 3)}, ("range",)),
    ({"kind": "continuous", "range": 116}, ("range", 116)),
    ({"kind": "continuous", "centered": 0}, ("centered", 0, True, False)),
    ({"kind": "categorical", "classes": ("male")}, ("classes", "'male'")),
    ({"kind": "categorical", "classes": AB, "weight": "2"}, ("weight", "'2'")),
    ({"kind": "categorical", "classes": AB, "weight": -1}, ("weight", -1)),
    ({"kind": "categorical", "classes": AB, "loss": 1}, ("loss", 1)),
    ({"kind": "pose", "angles": ("yaw", "tilt")}, ("angles", "yaw", "pitch", "roll")),
    ({"kind": "pose", "angles": ("yaw", "yaw")}, (("yaw", "yaw"),)),
    ({"kind": "pose", "scale": 0}, ("scale", 0)),
    ({"kind": "landmarks"}, ("points",)),
    ({"kind": "landmarks", "points": AB, "flip": (("a", "c"),)}, ("flip", ("a", "c"))),
    (
        {"kind": "landmarks", "points": (*AB, "c"), "flip": (AB, ("b", "c"))},
        ("flip", ("b", "c")),
    ),
]


@pytest.mark.parametrize(("options", "parts"), MISTAKES)
def test_mistakes_in_a_declaration_name_the_attribute_and_the_option(options, parts):
    with refused("x", *parts, error=ValueError):
        attributes.from_config({"x": options})
