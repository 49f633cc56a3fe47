"""Landmark errors by yaw, against values computed by hand."""

import math

import numpy as np
import pytest

from mtl_jax.attributes.base import parse_labels
from mtl_jax.attributes.declarations import from_config
from mtl_jax.data.records import Instance, Record
from mtl_jax.evals.face_errors import Errors, FaceErrors, cumulative
from mtl_jax.results import Result

ATTRIBUTES = from_config(
    {
        "head": dict(kind="pose", angles=("pitch", "yaw")),
        "face": dict(kind="landmarks", points=("a", "b", "c")),
    }
)
BOX = (10.0, 10.0, 30.0, 90.0)  # the square root of its area is 40


def face(yaw, points, box=BOX, **changes):
    head = {} if yaw is None else {"head": {"yaw": yaw}}
    return Instance(
        box, 1, attributes=parse_labels(ATTRIBUTES, {**head, "face": points}), **changes
    )


def off(*shifts):
    """Return the points (10, 10), (20, 20), (30, 30), each shifted."""
    return np.array([[10, 10], [20, 20], [30, 30.0]]) + np.array(shifts)


def image_with(instances, found):
    """Make an image; `found` maps an instance's index to its prediction (yaw, three points)."""
    count = len(found)
    points = [[*np.concatenate([xy, [[1], [1], [1]]], 1).ravel()] for _, xy in found.values()]
    result = Result(
        np.zeros((count, 4), np.float32),
        np.ones(count, np.float32),
        np.ones(count, np.int64),
        ("face",) * count,
        np.ones(count, np.int64),
        100,
        100,
        attributes={
            "head": np.array([[0, yaw] for yaw, _ in found.values()], float).reshape(-1, 2),
            "face": np.array(points, float).reshape(-1, 9),
        },
    )
    record = Record(np.zeros((100, 100, 3), np.uint8), 100, 100, 0, "a.png", tuple(instances))
    return record, result, {place: d for d, place in enumerate(found)}


def test_visible_points_by_yaw_with_their_misses():
    all_seen = [(10, 10, 2), (20, 20, 2), (30, 30, 2)]
    instances = [
        face(-10, all_seen),  # 3, 4 and 5 pixels off: 4 / 40
        face(30, [(10, 10, 2), (20, 20, 1), (30, 30)]),  # one hidden; 6 and 2 pixels off: 4 / 40
        face(-45, all_seen),  # missed
        face(0, [None, (20, 20, 1), (None, None, 1)]),  # nothing visible
        face(None, all_seen),  # 8 pixels off each, unknown yaw
        face(5, all_seen, crowd=True),
        face(31, [(10, 10, 2), None, None]),  # no error
    ]
    found = {
        0: (-14.0, off([3, 0], [0, 4], [-3, 4])),
        1: (350.0, off([6, 0], [50, 50], [0, 2])),
        4: (0.0, off([8, 0], [8, 0], [8, 0])),
        6: (31.0, off([0, 0], [9, 9], [9, 9])),
    }
    errors = FaceErrors(ATTRIBUTES)
    errors.add(*image_with(instances, found))
    by_yaw = errors.by_yaw()
    assert by_yaw["0 to 30"] == pytest.approx(Errors(2, 0, 0.1, 0.0))
    assert by_yaw["30 to 60"] == pytest.approx(Errors(2, 1, 0.0, 0.0))
    assert by_yaw["60 to 90"][:2] == (0, 0)
    assert math.isnan(by_yaw["60 to 90"].mean)
    mean, values = 0.1, [0.1, 0.1, 0.2, 0.0]
    deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / 4)
    assert by_yaw["all"] == pytest.approx(Errors(5, 1, mean, deviation))
    # 4 degrees, 320 equal to 40, a miss, a miss without visible points, no error.
    assert sorted(errors.angles["head/yaw"]) == pytest.approx([0, 4, 40, math.inf, math.inf])
    assert errors.angles["head/pitch"] == []
    summary = errors.summary()
    assert summary["nme"]["60 to 90"] == {"instances": 0, "misses": 0}
    curve = summary["nme_curve"]
    at = curve["at_most"].index(0.15)
    assert curve["share"][at] == pytest.approx(3 / 5)
    assert curve["share"][-1] == pytest.approx(4 / 5)


def test_shares_are_counted():
    errors = [0.5, 2.0, math.inf, 1.0]
    np.testing.assert_allclose(cumulative(errors, np.array([0.4, 1.0, 9.0])), [0, 0.5, 0.75])
    np.testing.assert_array_equal(cumulative([], np.array([1.0])), [0])
