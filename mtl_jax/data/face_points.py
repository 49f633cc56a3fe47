"""The points of a face: AFLW's 21 by name, iBUG's 68 mapped to them, and the box around them."""

from collections.abc import Sequence

import numpy as np

from mtl_jax.attributes.vocabulary import LANDMARKS
from mtl_jax.data.records import Box

Point = tuple[float, float] | tuple[float, float, int]  # x, y, and v where it is known
IBUG = 68  # points, counted from 0: jaw 0-16, brows 17-26, nose 27-35, eyes 36-47, mouth 48-67
# Each is the mean of these; iBUG marks no ears. On AFLW2000, which has both, each of these 19 is
# of all 68 points and such means the nearest one, but for the mouth's corners: as near as 60, 64.
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
_FOREHEAD = 0.25  # of the points' height: half of what stands between brows and hair
_FAR = 0.25  # of the picture's longer side that a point may lie outside it


def from_ibug(points: np.ndarray) -> list[Point | None]:
    """Give AFLW's 21 of iBUG's points `[68, 2]`; None where iBUG has none."""
    means = {name: points[list(at)].mean(0).tolist() for name, at in _OF_IBUG.items()}
    return [(means[name][0], means[name][1]) if name in means else None for name in LANDMARKS]


def face_box(points: np.ndarray, width: int, height: int) -> Box:
    """Give the box of a face that is annotated by points `[n, 2]` from brows to chin alone.

    It is the points' own, a quarter of its height taken up the forehead, and what of that lies in
    the picture. Raises ValueError where that is nothing, or where a point lies far outside.
    """
    check_near(points, width, height)
    (x1, y1), (x2, y2) = points.min(0).tolist(), points.max(0).tolist()
    return clip((x1, y1 - _FOREHEAD * (y2 - y1), x2, y2), width, height)


def are_far(points: np.ndarray, width: int, height: int) -> np.ndarray:
    """Say which points `[n, 2]` are not finite or far outside the picture."""
    outside = np.maximum(-points, points - (width, height)).max(1)
    return ~(outside <= _FAR * max(width, height))  # NaN is not


def far_point(
    points: np.ndarray, width: int, height: int, names: Sequence[str] | None = None
) -> str:
    """Say which is the first of the points `[n, 2]` that is not finite or far outside the picture,
    by its number where points have no names; "" where none is.
    """
    wrong = are_far(points, width, height)
    if not wrong.any():
        return ""
    first = int(wrong.argmax())
    x, y = points[first].tolist()
    name = names[first] if names else f"point {first}"
    return f"{name} ({x:.6g}, {y:.6g}) lies far outside the picture of {width} x {height}"


def check_near(points: np.ndarray, width: int, height: int) -> None:
    """Raise ValueError where one of the points `[n, 2]` is a `far_point`."""
    if far := far_point(points, width, height):
        raise ValueError(f"{far}; correct or remove it")


def clip(box: Sequence[float], width: int, height: int) -> Box:
    """Cut a box at the picture's borders. Raises ValueError where nothing is left."""
    x1, y1 = max(box[0], 0.0), max(box[1], 0.0)
    x2, y2 = min(box[2], float(width)), min(box[3], float(height))
    if not (x1 < x2 and y1 < y2):  # NaN is not
        place = ", ".join(f"{value:.6g}" for value in box)
        raise ValueError(
            f"the box ({place}) has no area in the picture of {width} x {height}; correct or "
            "remove it"
        )
    return float(x1), float(y1), float(x2), float(y2)


def as_bbox(box: Box) -> list[float]:
    """Give COCO's [x, y, width, height] of a box."""
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def degrees(radians: np.ndarray, what: str) -> list[float]:
    """Convert angles. Raises ValueError where one is beyond half a turn: it was degrees before."""
    if not (np.abs(radians) <= np.pi + 1e-6).all():  # NaN is not
        values = ", ".join(f"{value:.6g}" for value in radians)
        raise ValueError(f"{what} is ({values}), beyond pi: not radians; store radians")
    return np.degrees(radians).tolist()
