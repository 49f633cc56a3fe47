"""Boxes drawn with plain or dotted lines, and several pictures on one sheet."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from mtl_jax.images.decode import decode
from mtl_jax.visualize.drawing.labels import FONT
from mtl_jax.visualize.drawing.palette import Color

CAPTION = 22  # pixels of the line under a picture
GAP = 8
WHITE = 255
INK = (40, 44, 48)
EDGE = (200, 205, 210)


def rectangle(
    picture: np.ndarray, box: np.ndarray, color: Color, stroke: int = 1, dotted: bool = False
) -> None:
    """Draw a box on RGB pixels in place; it may leave the picture."""
    x1, y1, x2, y2 = (round(float(v)) for v in np.clip(box, -1e4, 1e5))
    corners = [(x1, y1), (max(x2 - 1, x1), y1), (max(x2 - 1, x1), max(y2 - 1, y1))]
    corners += [(x1, max(y2 - 1, y1)), (x1, y1)]
    for start, end in pairwise(corners):
        if dotted:
            _dots(picture, start, end, color, stroke)
        else:
            cv2.line(picture, start, end, color, stroke)


def _dots(
    picture: np.ndarray, start: tuple[int, int], end: tuple[int, int], color: Color, stroke: int
) -> None:
    height, width = picture.shape[:2]
    length = max(abs(end[0] - start[0]), abs(end[1] - start[1]), 1)
    dash = 4 * stroke
    for t in range(0, length + 1, 2 * dash):
        points = [
            tuple(
                round(a + (b - a) * min(u, length) / length)
                for a, b in zip(start, end, strict=True)
            )
            for u in (t, t + dash)
        ]
        if any(0 <= x < width and 0 <= y < height for x, y in points):
            cv2.line(picture, points[0], points[1], color, stroke)


def sheet(
    pictures: Sequence[np.ndarray],
    columns: int,
    captions: Sequence[str] = (),
    cell: tuple[int, int] = (320, 320),
) -> np.ndarray:
    """Lay pictures (RGB, or gray `[H, W]`, uint8) out in rows of `columns`, each fitted to `cell`
    (height, width), a caption under it.
    """
    height, width = cell
    below = CAPTION if captions else 0
    rows = -(-len(pictures) // columns)
    columns = min(columns, len(pictures))
    shape = (rows * (height + below + GAP) + GAP, columns * (width + GAP) + GAP, 3)
    result = np.full(shape, WHITE, np.uint8)
    for i, picture in enumerate(pictures):
        top = GAP + (i // columns) * (height + below + GAP)
        left = GAP + (i % columns) * (width + GAP)
        fitted = fit_within(picture, height, width)
        y, x = top + (height - fitted.shape[0]) // 2, left + (width - fitted.shape[1]) // 2
        result[y : y + fitted.shape[0], x : x + fitted.shape[1]] = fitted
        frame = np.array([x - 1, y - 1, x + fitted.shape[1] + 1, y + fitted.shape[0] + 1])
        rectangle(result, frame, EDGE)  # what is white ends where it ends
        if captions:
            at = (left, top + height + CAPTION - 7)
            text = captions[i][: width // 7].encode("ascii", "replace").decode()
            cv2.putText(result, text, at, FONT, 0.42, INK, 1, cv2.LINE_AA)
    return result


def sheet_of_files(
    folder: str | Path, names: Sequence[str], columns: int = 2, cell: tuple[int, int] = (360, 360)
) -> np.ndarray:
    """Lay pictures of a page that was written to `folder` out on one sheet, by their names."""
    return sheet([decode(Path(folder, f"{name}.png")) for name in names], columns, names, cell)


def fit_within(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize to fit `height` x `width`, its shape kept; what is small grows with hard pixels."""
    if picture.ndim == 2:
        picture = np.repeat(picture[..., None], 3, -1)
    factor = min(height / picture.shape[0], width / picture.shape[1])
    size = max(1, round(picture.shape[1] * factor)), max(1, round(picture.shape[0] * factor))
    return cv2.resize(
        picture, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_NEAREST
    )
