"""Detections drawn on their image: masks, boxes, classes, scores and attributes."""

import math
from collections.abc import Sequence

import cv2
import numpy as np

from mtl_jax.results import Result
from mtl_jax.visualize.drawing.labels import Labels
from mtl_jax.visualize.drawing.palette import Color, class_color

MASK_ALPHA = 0.4
# Longer side in pixels: images below SMALL are enlarged to at least ENLARGED.
SMALL, ENLARGED = 128, 256
FULL = 0.8  # share of an image above which a box is that of a whole face
AXIS_COLORS: tuple[Color, ...] = ((230, 40, 40), (30, 170, 60), (60, 120, 255))  # right, up, nose


def draw(image: np.ndarray, result: Result, *, min_score: float | None = None) -> np.ndarray:
    """Draw detections with a score of at least `min_score` on a copy of `image`, in RGB.

    `image` is uint8 `[H, W]` or `[H, W, C]`. Landmarks that are probably hidden are hollow. A pose
    is drawn as three lines from the centre of the box: red to the head's left (the viewer's right
    at yaw 0), green up, and blue with an arrowhead along the nose.
    """
    drawn = as_rgb(image)
    shown = to_show(drawn, result, min_score)
    if result.mask_probabilities is not None:
        for i in reversed(shown):  # higher scores are drawn on top
            _draw_mask(drawn, result, i, class_color(result.class_names[i]), _stroke(drawn))
    return _draw_all_but_masks(drawn, result, shown)


def draw_boxes(image: np.ndarray, result: Result) -> np.ndarray:
    """Draw like `draw`, but without masks."""
    drawn = as_rgb(image)
    return _draw_all_but_masks(drawn, result, to_show(drawn, result))


def enlarge(image: np.ndarray, result: Result) -> tuple[np.ndarray, Result]:
    """Enlarge a small image and its result by a whole factor if a box covers nearly all of it.

    Labels would otherwise hide, for example, a face chip of 48 pixels. Other images are returned
    unchanged.
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
    """Return the indices of detections with a score of at least `min_score`.

    `min_score` is by default the result's `draw_score`. Raises ValueError if the size of `image`
    differs from the result's.
    """
    if image.shape[:2] != (result.height, result.width):
        raise ValueError(
            f"the image has {image.shape[1]} x {image.shape[0]} pixels, "
            f"but the result's image has {result.width} x {result.height}"
        )
    min_score = result.draw_score if min_score is None else min_score
    return [i for i in range(len(result)) if result.scores[i] >= min_score]


def label_lines(result: Result, i: int) -> list[str]:
    """Return the label of detection i: class and score, then a line for each attribute."""
    values = [(a, result.attributes[a.name][i]) for a in result.declared]
    captions = [a.caption(value) for a, value in values if not np.isnan(value).all()]
    name, score = result.class_names[i], result.scores[i]
    # An infinite score marks an annotation.
    return [name if np.isinf(score) else f"{name} {score:.2f}", *filter(None, captions)]


def as_rgb(image: np.ndarray) -> np.ndarray:
    """Return a copy of an image as uint8 RGB. Unless there are 3 channels, their mean is shown."""
    image = image[..., None] if image.ndim == 2 else image
    if image.shape[2] != 3:
        image = np.repeat(image.mean(-1, keepdims=True).astype(np.uint8), 3, -1)
    return np.array(image, np.uint8, order="C")


def _stroke(image: np.ndarray) -> int:
    return max(1, round(max(image.shape[:2]) / 320))


def _draw_all_but_masks(image: np.ndarray, result: Result, shown: Sequence[int]) -> np.ndarray:
    stroke = _stroke(image)
    for i in reversed(shown):
        _rectangle(image, result.boxes[i], class_color(result.class_names[i]), stroke)
    for i in reversed(shown):
        _draw_points_and_axes(image, result, i, stroke)
    labels = Labels(image.shape[0], image.shape[1], result.boxes[list(shown)])
    for i in shown:
        lines = label_lines(result, i)
        name = result.class_names[i]
        labels.put(image, result.boxes[i], name, lines, class_color(name))
    return image


def _draw_mask(image: np.ndarray, result: Result, i: int, color: Color, stroke: int) -> None:
    mask, y, x = result.mask_crop(i)
    if not mask.any():
        return
    window = image[y : y + mask.shape[0], x : x + mask.shape[1]]
    window[mask] = (1 - MASK_ALPHA) * window[mask] + MASK_ALPHA * np.array(color)
    found = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    contours: Sequence[np.ndarray] = found[-2]
    outlined = np.ascontiguousarray(window)
    cv2.drawContours(outlined, contours, -1, color, max(1, stroke // 2), cv2.LINE_AA)
    window[:] = outlined


def _rectangle(image: np.ndarray, box: np.ndarray, color: Color, stroke: int) -> None:
    x1, y1, x2, y2 = (round(float(v)) for v in box)
    # A box ends at the far edge of its last pixel.
    cv2.rectangle(image, (x1, y1), (max(x2 - 1, x1), max(y2 - 1, y1)), color, stroke)


def _draw_points_and_axes(image: np.ndarray, result: Result, i: int, stroke: int) -> None:
    for attribute in result.declared:
        prediction = result.attributes[attribute.name][i]
        points, angles = attribute.points_of(prediction), attribute.angles_of(prediction)
        if points is not None:
            _draw_points(image, points, result.boxes[i])
        if angles is not None:
            _draw_axes(image, angles, result.boxes[i], stroke)


def _draw_points(image: np.ndarray, points: np.ndarray, box: np.ndarray) -> None:
    """Draw points `[J, 3]`: rings if hidden, filled if visible or of unknown visibility (NaN).

    Filled points are yellow with a dark rim, which is visible on both skin and hair.
    """
    side = math.sqrt(max(float(box[2] - box[0]) * float(box[3] - box[1]), 1.0))
    radius = max(round(side / 80), 1)
    for x, y, visible in points:
        if not -1e4 < x < 1e5 or not -1e4 < y < 1e5:
            continue
        at = (math.floor(x), math.floor(y))
        if visible < 0.5:
            cv2.circle(image, at, radius + 1, (255, 235, 0), 1, cv2.LINE_AA)
        else:
            cv2.circle(image, at, radius + 1, (0, 0, 0), -1, cv2.LINE_AA)
            cv2.circle(image, at, radius, (255, 235, 0), -1, cv2.LINE_AA)


def _draw_axes(image: np.ndarray, degrees: dict[str, float], box: np.ndarray, stroke: int) -> None:
    center = (np.asarray(box[:2]) + np.asarray(box[2:])) / 2
    length = 0.45 * min(float(box[2] - box[0]), float(box[3] - box[1]))
    ends = head_axes(**{angle: float(value) for angle, value in degrees.items()})
    start = _pixel(center)
    # Axes that point away from the viewer are drawn first, below the others.
    for k in np.argsort(-ends[:, 2]):
        end = _pixel(center + length * ends[k, :2])
        for color, thick in (((0, 0, 0), 2 * stroke + 2), (AXIS_COLORS[k], 2 * stroke)):
            if k == 2:
                cv2.arrowedLine(image, start, end, color, thick, cv2.LINE_AA, 0, 0.25)
            else:
                cv2.line(image, start, end, color, thick, cv2.LINE_AA)


def head_axes(yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> np.ndarray:
    """Return unit vectors `[3, 3]` along a head's axes: to its left (right at yaw 0), up, nose.

    Angles are in degrees. x points right, y down, z away from the viewer. The head is rolled, then
    pitched, then yawed: the nose points to (-sin yaw cos pitch, -sin pitch) in the image.
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
