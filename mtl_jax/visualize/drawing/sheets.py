"""Boxes with solid or dotted lines, and sheets of several images."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from mtl_jax.images.decode import decode
from mtl_jax.visualize.drawing.palette import Color
from mtl_jax.visualize.drawing.text import write

CAPTION = 22  # height in pixels of the caption below an image
FONT_SIZE = 12
GAP = 8
WHITE = 255
INK = (40, 44, 48)
EDGE = (200, 205, 210)


def rectangle(
    image: np.ndarray, box: np.ndarray, color: Color, stroke: int = 1, dotted: bool = False
) -> None:
    """Draw a box on RGB pixels in place. It may extend beyond the image."""
    x1, y1, x2, y2 = (round(float(v)) for v in np.clip(box, -1e4, 1e5))
    corners = [(x1, y1), (max(x2 - 1, x1), y1), (max(x2 - 1, x1), max(y2 - 1, y1))]
    corners += [(x1, max(y2 - 1, y1)), (x1, y1)]
    for start, end in pairwise(corners):
        if dotted:
            _dots(image, start, end, color, stroke)
        else:
            cv2.line(image, start, end, color, stroke)


def _dots(
    image: np.ndarray, start: tuple[int, int], end: tuple[int, int], color: Color, stroke: int
) -> None:
    height, width = image.shape[:2]
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
            cv2.line(image, points[0], points[1], color, stroke)


def sheet(
    images: Sequence[np.ndarray],
    columns: int,
    captions: Sequence[str] = (),
    cell: tuple[int, int] = (320, 320),
) -> np.ndarray:
    """Arrange images in rows of `columns`, each fitted to `cell` (height, width), with captions.

    Images are uint8, RGB `[H, W, 3]` or gray `[H, W]`. A caption is below its image.
    """
    height, width = cell
    below = CAPTION if captions else 0
    rows = -(-len(images) // columns)
    columns = min(columns, len(images))
    shape = (rows * (height + below + GAP) + GAP, columns * (width + GAP) + GAP, 3)
    result = np.full(shape, WHITE, np.uint8)
    for i, image in enumerate(images):
        top = GAP + (i // columns) * (height + below + GAP)
        left = GAP + (i % columns) * (width + GAP)
        fitted = fit_within(image, height, width)
        y, x = top + (height - fitted.shape[0]) // 2, left + (width - fitted.shape[1]) // 2
        result[y : y + fitted.shape[0], x : x + fitted.shape[1]] = fitted
        frame = np.array([x - 1, y - 1, x + fitted.shape[1] + 1, y + fitted.shape[0] + 1])
        rectangle(result, frame, EDGE)  # shows the extent of a white image
        if captions:
            at = (left, top + height + CAPTION - 7)
            write(result, captions[i][: width // 7], at, FONT_SIZE, INK)
    return result


def sheet_of_files(
    folder: str | Path, names: Sequence[str], columns: int = 2, cell: tuple[int, int] = (360, 360)
) -> np.ndarray:
    """Arrange images of a page that was written to `folder`, by their names, on one sheet."""
    return sheet([decode(Path(folder, f"{name}.png")) for name in names], columns, names, cell)


def fit_within(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize an image to fit `height` x `width` at its aspect ratio, as RGB.

    Enlarged images keep sharp pixels.
    """
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, -1)
    factor = min(height / image.shape[0], width / image.shape[1])
    size = max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor))
    return cv2.resize(
        image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_NEAREST
    )
