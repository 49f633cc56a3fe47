"""Missing landmarks of a face, placed by the mean head."""

import numpy as np
import pytest
import scipy.optimize
from faces import AT
from mistakes import refused
from real_data import data_set
from scipy.spatial.transform import Rotation

from mtl_jax.attributes.vocabulary import LANDMARK_FLIP
from mtl_jax.data.face_masks.fit import Fit, frame_of, grid_of
from mtl_jax.data.face_masks.mean_head import MEAN_HEAD, complete
from mtl_jax.data.readers.faces.aflw2000 import read_ibug, read_mats

MIRROR = np.arange(21)
for left, right in LANDMARK_FLIP:
    MIRROR[[AT[left], AT[right]]] = AT[right], AT[left]
# Points that are hidden when the head turns to the image's left.
HIDDEN = np.flatnonzero(MEAN_HEAD[:, 0] < -0.3)


def seen(yaw, pitch=0.0, roll=0.0, size=30.0):
    turn = Rotation.from_euler("zxy", (roll, pitch, -yaw), degrees=True)
    return size * turn.apply(MEAN_HEAD)[:, :2] + (90, 70)


def hide(points, hidden):
    points = points.copy()
    points[hidden] = np.nan
    return points


@pytest.mark.parametrize("roll", [0, 100, 180])
@pytest.mark.parametrize("pitch", [-25, 0, 25])
@pytest.mark.parametrize("yaw", [-90, -40, 0, 40, 90])
def test_a_turned_mean_head_is_found_again(yaw, pitch, roll):
    points = seen(yaw, pitch, roll)
    hidden = MIRROR[HIDDEN] if yaw < 0 else HIDDEN
    np.testing.assert_allclose(complete(hide(points, hidden)), points, atol=0.5)


def test_it_lies_nearest_to_the_known_points():
    """Compare with the best of scipy's fits from several initial rotations."""
    rng = np.random.default_rng(0)
    known = np.delete(np.arange(21), HIDDEN)

    def view(pose):
        return pose[3] * Rotation.from_rotvec(pose[:3]).apply(MEAN_HEAD)[:, :2] + pose[4:]

    for yaw in (20, 50, 80):
        points = seen(yaw, 10, -15) + rng.normal(0, 2.0, (21, 2))
        starts = Rotation.from_euler("y", np.arange(-90, 91, 45)[:, None], degrees=True)
        fits = [
            scipy.optimize.least_squares(
                lambda pose, points=points: (view(pose) - points)[known].ravel(),
                (*start.as_rotvec(), 30, 90, 70),
            )
            for start in starts
        ]
        expected = view(min(fits, key=lambda fit: fit.cost).x)
        found = complete(hide(points, HIDDEN))
        np.testing.assert_array_equal(found[known], points[known])
        np.testing.assert_allclose(found[HIDDEN], expected[HIDDEN], atol=1.0)


def test_a_mirrored_face_has_mirrored_points():
    points = hide(seen(55, 5, 20) + np.random.default_rng(1).normal(0, 2, (21, 2)), HIDDEN)
    mirrored = (points * (-1, 1))[MIRROR]
    np.testing.assert_allclose(complete(mirrored)[MIRROR] * (-1, 1), complete(points), atol=1e-6)


def test_too_few_points_are_refused():
    def keep(*names):
        return hide(seen(0), [i for name, i in AT.items() if not name.startswith(names)])

    complete(keep("left_eye", "right_eye", "mouth"))
    with refused(error=ValueError):
        complete(keep("left_eye", "mouth"))
    with refused(error=ValueError):
        complete(keep("left_brow", "right_brow", "left_eye", "right_eye"))
    line = np.outer(np.arange(21.0), (1, 2))
    with refused(error=ValueError):
        complete(hide(line, HIDDEN))


def test_masks_of_aflw2000_lie_where_its_68_points_place_them():
    folder = data_set("aflw2000_prnet16")
    gaps = {}
    for face in read_mats(folder).annotations:
        rows = [[np.nan if v is None else v for v in row[:2]] for row in face["attributes"]["face"]]
        every = frame_of(read_ibug((folder / face["image_id"]).with_suffix(".mat")))
        away = grid_of(frame_of(np.array(rows)), Fit()) - grid_of(every, Fit())
        gaps[face["image_id"]] = np.linalg.norm(away, axis=-1).mean() / every.width
    assert len(gaps) == 12
    assert np.mean(list(gaps.values())) < 0.1, gaps
