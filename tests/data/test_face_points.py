"""Conversion of iBUG's 68 points to AFLW's 21, and face boxes."""

import itertools

import numpy as np
import pytest
import scipy.io
from faces import AT, DECLARED, ibug
from mistakes import refused
from real_data import data_set

from mtl_jax.attributes.landmarks import Landmarks
from mtl_jax.attributes.vocabulary import LANDMARK_FLIP, LANDMARKS
from mtl_jax.data.face_points import check_near, clip, degrees, face_box, from_ibug
from mtl_jax.images.geometry import Geometry


def named(points) -> dict[str, np.ndarray]:
    found = zip(LANDMARKS, from_ibug(points), strict=True)
    return {name: np.array(xy) for name, xy in found if xy is not None}


def test_points_are_ordered_as_their_names():
    points = ibug()
    at = named(points)
    assert sorted(set(LANDMARKS) - set(at)) == ["left_ear", "right_ear"]
    x = {name: xy[0] for name, xy in at.items()}
    y = {name: xy[1] for name, xy in at.items()}
    rows = [
        [f"{s}_brow_{p}" for s in ("left", "right") for p in ("left", "center", "right")],
        [f"{s}_eye_{p}" for s in ("left", "right") for p in ("left", "center", "right")],
        ["nose_left", "nose_center", "nose_right"],
        ["mouth_left", "mouth_center", "mouth_right"],
        ["chin"],
    ]
    for row in rows:
        assert [x[name] for name in row] == sorted(x[name] for name in row)
    for upper, lower in itertools.pairwise(rows):
        assert max(y[name] for name in upper) < min(y[name] for name in lower)
    np.testing.assert_allclose(at["left_eye_center"], points[36:42].mean(0))
    np.testing.assert_allclose(at["mouth_center"], (points[62] + points[66]) / 2)


def test_a_mirrored_face_has_the_points_of_its_mirror_image():
    mirror = [*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1)]
    mirror += [45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40]
    mirror += [54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65]
    points = np.random.default_rng(0).uniform(0, 100, (68, 2))
    flipped = (points * (-1, 1) + (100, 0))[mirror]
    face = next(a for a in DECLARED if a.name == "face")
    values, known = face.move(*face.parse(from_ibug(points)), Geometry(scale_x=-1, shift_x=100))
    expected, known_too = face.parse(from_ibug(flipped))
    np.testing.assert_array_equal(known, known_too)
    np.testing.assert_allclose(values[known], expected[known], atol=1e-4)


def test_flip_pairs_cover_all_points_except_the_central_ones():
    paired = {name for pair in LANDMARK_FLIP for name in pair}
    assert set(LANDMARKS) - paired == {"nose_center", "mouth_center", "chin"}


def test_a_hidden_point_may_have_no_coordinates():
    face = Landmarks("face", points=("a", "b", "c"))
    values, known = face.parse([(None, None, 1), (1, 2, 2), None])
    assert known.tolist() == [False, False, True, True, True, True, False, False, False]
    assert values.tolist() == [0, 0, 0, 1, 2, 1, 0, 0, 0]
    with refused("face", None, error=ValueError):
        face.parse([(None, None, 2), None, None])


def test_the_box_includes_the_forehead_and_is_clipped_to_the_image():
    points = np.array([(10.0, 20.0), (50.0, 60.0)])
    assert face_box(points, 100, 100) == (10, 10, 50, 60)
    assert face_box(points - (20, 15), 100, 100) == (0, 0, 30, 45)
    with refused("(110, 10, 120, 60)", 100, 90, error=ValueError):
        face_box(np.array([(110.0, 20.0), (120.0, 60.0)]), 100, 90)
    with refused(1, "(50, 190)", 100, 150, error=ValueError):
        face_box(np.array([(10.0, 20.0), (50.0, 190.0)]), 100, 150)
    with refused("(1, 2, nan, 4)", 10, 15, error=ValueError):
        clip((1, 2, float("nan"), 4), 10, 15)


@pytest.mark.parametrize("value", [np.nan, np.inf, -26.0, 126.0])
def test_a_point_far_outside_is_named(value):
    check_near(np.array([(125.0, 40.0), (-25.0, 40.0)]), 100, 50)
    for x, y in ((value, 5.0), (5.0, value)):
        with refused(2, f"({x:g}, {y:g})", error=ValueError):
            check_near(np.array([(1.0, 1.0), (2.0, 2.0), (x, y)]), 100, 50)


def test_degrees_stored_as_radians_are_refused():
    np.testing.assert_allclose(degrees(np.array([np.pi, -np.pi / 2]), "pose"), [180, -90])
    for wrong in (30.0, -4.0, np.nan):
        with refused("pose", f"(0, {wrong:g})", error=ValueError):
            degrees(np.array([0.0, wrong]), "pose")


def test_converted_points_are_near_aflws_on_faces_with_both_markups():
    """AFLW2000's near-frontal faces have AFLW's points and, from a fitted 3D model, iBUG's."""
    far: dict[str, list[float]] = {}
    for path in sorted(data_set("aflw2000_prnet16").glob("*.mat")):
        mat = scipy.io.loadmat(path)
        if abs(mat["Pose_Para"][0, 1]) > 0.6:
            continue
        ours, side = named(mat["pt3d_68"][:2].T), np.ptp(mat["pt3d_68"][:2], 1).mean()
        for name, xy in ours.items():
            theirs = mat["pt2d"][:, AT[name]]
            if (theirs != -1).all():
                far.setdefault(name, []).append(float(np.linalg.norm(xy - theirs) / side))
    assert len(far) == 19
    assert max(np.mean(each) for each in far.values()) < 0.05
