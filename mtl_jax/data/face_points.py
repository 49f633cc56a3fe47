"""Facial landmarks: AFLW's 21 by name, the mapping from iBUG's 68, and face boxes from points."""

from collections.abc import Sequence

import numpy as np

from mtl_jax.attributes.vocabulary import LANDMARKS
from mtl_jax.data.records import Box

Point = tuple[float, float] | tuple[float, float, int]  # x, y, and visibility v if it is known
IBUG = 68  # points, counted from 0: jaw 0-16, brows 17-26, nose 27-35, eyes 36-47, mouth 48-67
# Each AFLW point is the mean of these iBUG points; iBUG has no ears. AFLW2000 has both markups:
# there, each of these 19 is the candidate (any of the 68 points, or a mean above) that is nearest
# to AFLW's point. The exception is the mouth's corners, where 60 and 64 are equally near.
_OF_IBUG: dict[str, tuple[int, ...]] = {
    "left_brow_left": (17,),
    "left_brow_center": (19,),
    "left_brow_right": (21,),
    "right_brow_left": (22,),
    "right_brow_center": (24,),
    "right_brow_right": (26,),
    "left_eye_left": (36,),
    "left_eye_center": (36, 37, 38, 39, 40, 41),
    "left_eye_right": (39,),
    "right_eye_left": (42,),
    "right_eye_center": (42, 43, 44, 45, 46, 47),
    "right_eye_right": (45,),
    "nose_left": (31,),
    "nose_center": (30,),
    "nose_right": (35,),
    "mouth_left": (48,),
    "mouth_center": (62, 66),
    "mouth_right": (54,),
    "chin": (8,),
}
_FOREHEAD = 0.25  # fraction of the points' height: half the distance from brows to hair
_FAR = 0.25  # a point may lie outside the image by this fraction of the image's longer side


def from_ibug(points: np.ndarray) -> list[Point | None]:
    """Convert iBUG's points `[68, 2]` to AFLW's 21; None for those that iBUG does not have."""
    means = {name: points[list(at)].mean(0).tolist() for name, at in _OF_IBUG.items()}
    return [(means[name][0], means[name][1]) if name in means else None for name in LANDMARKS]


def face_box(points: np.ndarray, width: int, height: int) -> Box:
    """Return the box of a face from points `[n, 2]` that extend from the brows to the chin.

    It is the bounding box of the points, extended up by a quarter of its height for the forehead
    and clipped to the image. Raises ValueError if it is empty or if a point is far outside.
    """
    check_near(points, width, height)
    (x1, y1), (x2, y2) = points.min(0).tolist(), points.max(0).tolist()
    return clip((x1, y1 - _FOREHEAD * (y2 - y1), x2, y2), width, height)


def are_far(points: np.ndarray, width: int, height: int) -> np.ndarray:
    """Return which points `[n, 2]` are not finite or lie far outside the image, as bool `[n]`."""
    outside = np.maximum(-points, points - (width, height)).max(1)
    return ~(outside <= _FAR * max(width, height))  # also True for NaN


def far_point(
    points: np.ndarray, width: int, height: int, names: Sequence[str] | None = None
) -> str:
    """Describe the first of the points `[n, 2]` that is not finite or lies far outside the image,
    by its index if there are no `names`. Return "" if there is no such point.
    """
    wrong = are_far(points, width, height)
    if not wrong.any():
        return ""
    first = int(wrong.argmax())
    x, y = points[first].tolist()
    name = names[first] if names else f"point {first}"
    return f"{name} ({x:.6g}, {y:.6g}) is far outside the image of {width} x {height} pixels"


def check_near(points: np.ndarray, width: int, height: int) -> None:
    """Raise ValueError if one of the points `[n, 2]` is a `far_point`."""
    if far := far_point(points, width, height):
        raise ValueError(f"{far}; correct or remove it")


def clip(box: Sequence[float], width: int, height: int) -> Box:
    """Clip a box to the image. Raises ValueError if nothing remains."""
    x1, y1 = max(box[0], 0.0), max(box[1], 0.0)
    x2, y2 = min(box[2], float(width)), min(box[3], float(height))
    if not (x1 < x2 and y1 < y2):  # also rejects NaN
        place = ", ".join(f"{value:.6g}" for value in box)
        raise ValueError(
            f"the box ({place}) has no area inside the image of {width} x {height} pixels; correct "
            "or remove it"
        )
    return float(x1), float(y1), float(x2), float(y2)


def as_bbox(box: Box) -> list[float]:
    """Convert a box to COCO's [x, y, width, height]."""
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def degrees(radians: np.ndarray, what: str) -> list[float]:
    """Convert angles from radians to degrees. Raises ValueError, which names them by `what`, if one
    is beyond pi: such angles are probably in degrees already.
    """
    if not (np.abs(radians) <= np.pi + 1e-6).all():  # also rejects NaN
        values = ", ".join(f"{value:.6g}" for value in radians)
        raise ValueError(f"{what} is ({values}); it must be in radians, from -pi to pi")
    return np.degrees(radians).tolist()
