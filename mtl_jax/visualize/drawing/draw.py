"""Detections drawn on their picture: masks, boxes, classes, scores and attributes."""

import math
from collections.abc import Sequence

import cv2
import numpy as np

from mtl_jax.results import Result
from mtl_jax.visualize.drawing.labels import Labels
from mtl_jax.visualize.drawing.palette import Color, class_color

MASK_ALPHA = 0.4
SMALL, ENLARGED = 128, 256  # pixels of a picture's longer side
FULL = 0.8  # of a picture, which a box of a whole face is
AXIS_COLORS: tuple[Color, ...] = ((230, 40, 40), (30, 170, 60), (60, 120, 255))  # right, up, nose


def draw(image: np.ndarray, result: Result, *, min_score: float | None = None) -> np.ndarray:
    """Draw what was found with at least `min_score` on a copy of `image` (H x W or H x W x C,
    uint8): RGB.

    Points that are probably hidden are hollow. A pose is three lines from the box's centre: red to
    the head's own left as the viewer's right, green up, blue with a head along the nose.
    """
    picture = as_rgb(image)
    shown = to_show(picture, result, min_score)
    if result.mask_probabilities is not None:
        for i in reversed(shown):  # the higher score over the lower
            _draw_mask(picture, result, i, class_color(result.class_names[i]), _stroke(picture))
    return _draw_all_but_masks(picture, result, shown)


def draw_boxes(image: np.ndarray, result: Result) -> np.ndarray:
    """Draw as `draw` does, without the masks."""
    picture = as_rgb(image)
    return _draw_all_but_masks(picture, result, to_show(picture, result))


def enlarge(image: np.ndarray, result: Result) -> tuple[np.ndarray, Result]:
    """Give a small picture some times as large, and its result, where a box is nearly all of it:
    labels would hide the chip of 48 pixels that they are of.
    """
    side = max(image.shape[:2])
    boxes = result.boxes[result.scores >= result.draw_score]
    shares = (boxes[:, 2:] - boxes[:, :2]).prod(1) / (result.height * result.width)
    if side >= SMALL or not (shares > FULL).any():
        return image, result
    factor = -(-ENLARGED // side)
    larger = image.repeat(factor, 0).repeat(factor, 1)
    return larger, result.enlarged(factor)


def to_show(image: np.ndarray, result: Result, min_score: float | None = None) -> list[int]:
    """Give the detections that score `min_score` (the result's `draw_score`, when not given) and
    more. Raises ValueError where the picture's size is not the result's.
    """
    if image.shape[:2] != (result.height, result.width):
        raise ValueError(
            f"the picture is {image.shape[1]} x {image.shape[0]}, "
            f"the result's {result.width} x {result.height}"
        )
    min_score = result.draw_score if min_score is None else min_score
    return [i for i in range(len(result)) if result.scores[i] >= min_score]


def label_lines(result: Result, i: int) -> list[str]:
    """Give the text of detection i: class and score, then an attribute a line."""
    values = [(a, result.attributes[a.name][i]) for a in result.declared]
    captions = [a.caption(value) for a, value in values if not np.isnan(value).all()]
    name, score = result.class_names[i], result.scores[i]
    # What is annotated has no score.
    return [name if np.isinf(score) else f"{name} {score:.2f}", *filter(None, captions)]


def as_rgb(image: np.ndarray) -> np.ndarray:
    """Copy a picture as uint8 RGB; of channels other than 3 the mean is shown."""
    image = image[..., None] if image.ndim == 2 else image
    if image.shape[2] != 3:
        image = np.repeat(image.mean(-1, keepdims=True).astype(np.uint8), 3, -1)
    return np.array(image, np.uint8, order="C")


def _stroke(picture: np.ndarray) -> int:
    return max(1, round(max(picture.shape[:2]) / 320))


def _draw_all_but_masks(picture: np.ndarray, result: Result, shown: Sequence[int]) -> np.ndarray:
    stroke = _stroke(picture)
    for i in reversed(shown):
        _rectangle(picture, result.boxes[i], class_color(result.class_names[i]), stroke)
    for i in reversed(shown):
        _draw_points_and_axes(picture, result, i, stroke)
    labels = Labels(picture.shape[0], picture.shape[1], result.boxes[list(shown)])
    for i in shown:
        lines = label_lines(result, i)
        name = result.class_names[i]
        labels.put(picture, result.boxes[i], name, lines, class_color(name))
    return picture


def _draw_mask(picture: np.ndarray, result: Result, i: int, color: Color, stroke: int) -> None:
    mask, y, x = result.mask_crop(i)
    if not mask.any():
        return
    window = picture[y : y + mask.shape[0], x : x + mask.shape[1]]
    window[mask] = (1 - MASK_ALPHA) * window[mask] + MASK_ALPHA * np.array(color)
    found = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    contours: Sequence[np.ndarray] = found[-2]
    outlined = np.ascontiguousarray(window)
    cv2.drawContours(outlined, contours, -1, color, max(1, stroke // 2), cv2.LINE_AA)
    window[:] = outlined


def _rectangle(picture: np.ndarray, box: np.ndarray, color: Color, stroke: int) -> None:
    x1, y1, x2, y2 = (round(float(v)) for v in box)
    # The box ends where its last pixel does.
    cv2.rectangle(picture, (x1, y1), (max(x2 - 1, x1), max(y2 - 1, y1)), color, stroke)


def _draw_points_and_axes(picture: np.ndarray, result: Result, i: int, stroke: int) -> None:
    for attribute in result.declared:
        prediction = result.attributes[attribute.name][i]
        points, angles = attribute.points_of(prediction), attribute.angles_of(prediction)
        if points is not None:
            _draw_points(picture, points, result.boxes[i])
        if angles is not None:
            _draw_axes(picture, angles, result.boxes[i], stroke)


def _draw_points(picture: np.ndarray, points: np.ndarray, box: np.ndarray) -> None:
    """Draw points `[J, 3]`: a ring where hidden, else filled, also where nobody says (NaN); yellow
    with a dark rim, to be seen on skin and hair.
    """
    side = math.sqrt(max(float(box[2] - box[0]) * float(box[3] - box[1]), 1.0))
    radius = max(round(side / 80), 1)
    for x, y, visible in points:
        if not -1e4 < x < 1e5 or not -1e4 < y < 1e5:
            continue
        at = (math.floor(x), math.floor(y))
        if visible < 0.5:
            cv2.circle(picture, at, radius + 1, (255, 235, 0), 1, cv2.LINE_AA)
        else:
            cv2.circle(picture, at, radius + 1, (0, 0, 0), -1, cv2.LINE_AA)
            cv2.circle(picture, at, radius, (255, 235, 0), -1, cv2.LINE_AA)


def _draw_axes(
    picture: np.ndarray, degrees: dict[str, float], box: np.ndarray, stroke: int
) -> None:
    center = (np.asarray(box[:2]) + np.asarray(box[2:])) / 2
    length = 0.45 * min(float(box[2] - box[0]), float(box[3] - box[1]))
    ends = head_axes(**{angle: float(value) for angle, value in degrees.items()})
    start = _pixel(center)
    # The axis that points away from the viewer first, so that the others lie over it.
    for k in np.argsort(-ends[:, 2]):
        end = _pixel(center + length * ends[k, :2])
        for color, thick in (((0, 0, 0), 2 * stroke + 2), (AXIS_COLORS[k], 2 * stroke)):
            if k == 2:
                cv2.arrowedLine(picture, start, end, color, thick, cv2.LINE_AA, 0, 0.25)
            else:
                cv2.line(picture, start, end, color, thick, cv2.LINE_AA)


def head_axes(yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> np.ndarray:
    """Give the unit vectors `[3, 3]` to the viewer's right, up and along the nose of a head turned
    by `degrees`.

    x to the right, y down, z away from the viewer. The head is rolled, then pitched, then turned: a
    nose points to (-sin yaw cos pitch, -sin pitch) in the picture.
    """
    (sin_y, sin_p, sin_r), (cos_y, cos_p, cos_r) = (
        [f(math.radians(a)) for a in (yaw, pitch, roll)] for f in (math.sin, math.cos)
    )
    turn = np.array([[cos_y, 0, sin_y], [0, 1, 0], [-sin_y, 0, cos_y]])
    nod = np.array([[1, 0, 0], [0, cos_p, sin_p], [0, -sin_p, cos_p]])
    tilt = np.array([[cos_r, -sin_r, 0], [sin_r, cos_r, 0], [0, 0, 1]])
    return (turn @ nod @ tilt @ np.array([[1, 0, 0], [0, -1, 0], [0, 0, -1]]).T).T


def _pixel(point: np.ndarray) -> tuple[int, int]:
    return math.floor(float(point[0])), math.floor(float(point[1]))
