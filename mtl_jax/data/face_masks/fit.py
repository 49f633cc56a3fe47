"""Placement of a mask on a face: a grid of points from the face's landmarks, or from a template
of aligned chips.
"""

from typing import NamedTuple

import numpy as np

from mtl_jax.attributes.vocabulary import LANDMARKS
from mtl_jax.data.face_masks.mean_head import complete
from mtl_jax.data.face_points import IBUG

ROWS, COLUMNS = 4, 5  # of a mask's grid, from its upper edge and from the image's left
_STANDS_OUT = (0.0, 0.12, 0.14, 0.06)  # offset of a turned head's middle column, by row
_DROPS = (0.4, 0.85, 1.0, 0.85, 0.4)  # share of the lower edge's drop, by column


class Frame(NamedTuple):
    """The points of a face that a mask is fitted to, in pixels."""

    bridge: np.ndarray  # [2] between the eyes
    tip: np.ndarray  # [2] of the nose
    base: np.ndarray  # [2] of the nose
    mouth: np.ndarray  # [2]
    chin: np.ndarray  # [2]
    jaws: np.ndarray  # [2, 9, 2] from each ear to the chin, the image's left side first

    @property
    def width(self) -> float:
        """The unit of length: the distance from eyes to chin, which head turns change least."""
        return float(np.linalg.norm(self.chin - self.bridge)) + 1e-6


class Fit(NamedTuple):
    """How a mask fits."""

    top: float = 0.5  # upper edge, from between the eyes (0) to the tip of the nose (1)
    size: float = 1.0
    tightness: float = 1.0  # from 0, loose at the cheeks, to 1
    below_nose: bool = False
    drop: float = 0.04  # extent below the chin, as a fraction of the frame's width


FITTED = (IBUG, len(LANDMARKS))  # numbers of points that masks are fitted to


def frame_of(points: np.ndarray) -> Frame:
    """Return the frame of iBUG's 68 points or AFLW's 21, `[n, 2]`.

    Some of the 21 may be missing (NaN), such as those of a hidden side. Raises ValueError for
    another number of points, or if too few are known.
    """
    if len(points) == IBUG:
        jaws = np.stack([points[:9], points[16:7:-1]])
        mouth = points[[62, 66]].mean(0)
        frame = Frame(points[27], points[30], points[33], mouth, points[8], jaws)
    elif len(points) == len(LANDMARKS):
        frame = _frame_of_21(points)
        if not _is_known(frame):
            frame = _frame_of_21(complete(points))
    else:
        raise ValueError(f"a mask requires 68 (iBUG) or 21 (AFLW) landmarks, got {len(points)}")
    if not _is_known(frame):
        raise ValueError("landmarks that a mask requires are missing")
    return frame


def _is_known(frame: Frame) -> bool:
    return all(np.isfinite(part).all() for part in frame)


def _frame_of_21(points: np.ndarray) -> Frame:
    at = dict(zip(LANDMARKS, points, strict=True))
    bridge = (at["left_eye_right"] + at["right_eye_left"]) / 2
    base = (at["nose_left"] + at["nose_right"]) / 2
    mouth, chin = at["mouth_center"], at["chin"]
    down = chin - bridge
    jaws = []
    for side, other in (("left", "right"), ("right", "left")):
        eye, ear = at[f"{side}_eye_{side}"], at[f"{side}_ear"]
        if not np.isfinite(ear).all():
            ear = eye + (eye - at[f"{side}_eye_{other}"])
        # The jaw begins beside the eyes, as iBUG's does; AFLW's ear is the lobe.
        top = ear - float((ear - bridge) @ down / (down @ down + 1e-9)) * down
        corner = top + 0.8 * down + 0.07 * (top - bridge)
        t = np.linspace(0, 1, 9)[:, None]
        jaws.append((1 - t) ** 2 * top + 2 * t * (1 - t) * corner + t**2 * chin)
    return Frame(bridge, at["nose_center"], base, mouth, chin, np.stack(jaws))


def grid_of(frame: Frame, fit: Fit) -> np.ndarray:
    """Return the points `[ROWS, COLUMNS, 2]` over which a mask is stretched.

    The middle column follows nose, mouth and chin, and stands out of a turned face. The outer
    columns follow the jaws.
    """
    middle, sides = (_below_nose if fit.below_nose else _over_nose)(frame, fit)
    grid = np.empty((ROWS, COLUMNS, 2))
    across = frame.jaws[1, 0] - frame.jaws[0, 0]
    across = across / (np.linalg.norm(across) + 1e-6)
    behind = frame.jaws[:, 1:5].mean((0, 1))  # middle of the head, beside a turned nose
    for row, (point, side) in enumerate(zip(middle, sides, strict=True)):
        out = _STANDS_OUT[row] * ((point - behind) @ across)
        grid[row, 2] = point + out * across
        for column, half, jaw in ((0, 1, 0), (4, 3, 1)):
            grid[row, column] = _along(frame.jaws[jaw], side)
            grid[row, half] = 0.5 * (grid[row, 2] + grid[row, column])
    drop = _drop(frame, fit)
    grid[-1] += drop * np.array(_DROPS)[:, None]
    for half, jaw in ((1, 0), (3, 1)):  # beside the chin, follow the jaw
        grid[-1, half] = _along(frame.jaws[jaw], 0.5 * (sides[-1] + 8)) + drop * _DROPS[half]
    center = grid[1:3, 2].mean(0)
    grid = center + fit.size * (grid - center)
    loose = 0.06 * (1 - fit.tightness) * frame.width
    for column in (0, 4):
        outward = grid[:, column] - grid[:, 2]
        grid[:, column] += (
            loose * outward / (np.linalg.norm(outward, axis=-1, keepdims=True) + 1e-6)
        )
    return grid


def _over_nose(frame: Frame, fit: Fit) -> tuple[list[np.ndarray], tuple[float, ...]]:
    top = frame.bridge + fit.top * (frame.tip - frame.bridge)
    return [top, frame.tip, frame.mouth, frame.chin], (1.8, 2.8, 4.0, 5.4)


def _below_nose(frame: Frame, fit: Fit) -> tuple[list[np.ndarray], tuple[float, ...]]:
    top = frame.base + 0.25 * (frame.mouth - frame.base)
    lip = frame.mouth + 0.45 * (frame.chin - frame.mouth)
    return [top, frame.mouth, lip, frame.chin], (3.0, 3.8, 4.8, 5.8)


def _drop(frame: Frame, fit: Fit) -> np.ndarray:
    """Return the offset `[2]` of the lower edge below the chin, larger for a mask pulled down."""
    down = frame.chin - frame.mouth
    length = (fit.drop + 0.10 * fit.below_nose) * frame.width
    return length * down / (np.linalg.norm(down) + 1e-6)


def _along(jaw: np.ndarray, place: float) -> np.ndarray:
    """Return the point of a jaw at `place`, a fractional index from 0 to 8."""
    first = min(int(place), len(jaw) - 2)
    return jaw[first] + (place - first) * (jaw[first + 1] - jaw[first])


# A frontal face, in units of half the distance between the eyes, with the origin between them: the
# mean of 88 faces of HELEN and AFW, made symmetric. The jaw is from the image's left ear to the
# chin.
_BRIDGE, _TIP, _BASE, _MOUTH, _CHIN = (
    (0.0, -0.06),
    (0.0, 1.08),
    (0.0, 1.47),
    (0.0, 2.11),
    (0.0, 3.40),
)
_JAW = ((-2.22, 0.0), (-2.18, 0.59), (-2.09, 1.17), (-1.97, 1.73), (-1.74, 2.24), (-1.40, 2.68),
        (-0.97, 3.04), (-0.51, 3.32), (0.0, 3.40))  # fmt: skip
# The point between the eyes and the unit on aligned chips, as fractions of the side, measured on
# the mean of 978 UTKFace chips; FairFace's differ by at most 0.02. The eyes' position in single
# chips, found by correlation with the mean, has a standard deviation of 0.014 across and 0.022 down
# (FairFace: 0.03, 0.03).
_EYES, _UNIT = (0.497, 0.288), (0.195, 0.188)
JITTER = (0.014, 0.022)


def chip_frame(height: int, width: int, rng: np.random.Generator | None = None) -> Frame:
    """Return the frame of the face on an aligned chip such as UTKFace's.

    With `rng`, it is moved by the jitter of such chips.
    """
    side = np.array((width, height), float)
    moved = np.zeros(2) if rng is None else rng.normal(0, JITTER)

    def at(points: object) -> np.ndarray:
        return (np.asarray(points) * _UNIT + _EYES + moved) * side

    left = np.array(_JAW)
    left[0, 1] = 0.35  # where a strap ends; higher, many chips show hair, or no head
    jaws = np.stack([at(left), at(left * (-1, 1))])
    return Frame(at(_BRIDGE), at(_TIP), at(_BASE), at(_MOUTH), at(_CHIN), jaws)
