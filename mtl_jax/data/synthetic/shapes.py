"""Squares, circles and triangles on a plain background: Matterport's first training example.

Source: https://github.com/matterport/Mask_RCNN, samples/shapes/shapes.py.
"""

import cv2
import numpy as np

from mtl_jax.data.records import Category, Instance, Record, Source

CATEGORIES = (Category(1, "square"), Category(2, "circle"), Category(3, "triangle"))
_MAX_IOU = 0.3  # of the shapes' squares; if two overlap more, the earlier one is removed


class ShapesSource(Source):
    """Images of 1 to `max_shapes` shapes; image i depends only on the arguments and i."""

    is_drawn = True
    categories = CATEGORIES

    def __init__(self, length: int, seed: int, size: int = 128, max_shapes: int = 4) -> None:
        if size < 32 or max_shapes < 1 or length < 0:
            raise ValueError(
                "shapes: size must be 32 or more, max_shapes 1 or more, length 0 or more"
            )
        self.length, self.seed, self.size, self.max_shapes = length, seed, size, max_shapes

    def __len__(self) -> int:
        return self.length

    def group(self, position: int) -> str:
        """Return the position as the group: the images are independent."""
        return str(position)

    def __getitem__(self, position: int) -> Record:
        if not 0 <= position < self.length:
            raise IndexError(f"shapes: image {position} is out of range for {self.length} images")
        rng = np.random.default_rng((self.seed, position))
        image = np.empty((self.size, self.size, 3), np.uint8)
        image[:] = rng.integers(0, 255, 3)
        # The shape that a pixel shows, 1, 2, ...; 0 is the background.
        owner = np.zeros((self.size, self.size), np.int32)
        shapes = self._layout(rng)
        for number, (label, x, y, half, color) in enumerate(shapes, 1):
            _draw(image, label, x, y, half, color)
            _draw(owner, label, x, y, half, (number,))
        instances = []
        for number, (label, *_) in enumerate(shapes, 1):
            mask = owner == number
            if mask.any():
                instances.append(_instance(mask, label, position * self.max_shapes + number))
        name = f"{position:06d}.png"
        return Record(image, self.size, self.size, position, name, tuple(instances))

    def _layout(self, rng: np.random.Generator) -> list[tuple[int, int, int, int, tuple[int, ...]]]:
        """Choose label, centre x and y, half side and colour of each shape, from back to front."""
        margin = max(4, self.size * 20 // 128)  # 20 pixels of 128
        shapes = []
        for _ in range(rng.integers(1, self.max_shapes + 1)):
            color = tuple(int(value) for value in rng.integers(0, 256, 3))
            x, y = (int(value) for value in rng.integers(margin, self.size - margin, 2))
            half = int(rng.integers(margin, self.size // 4 + 1))
            shapes.append((int(rng.integers(1, 4)), x, y, half, color))
        kept: list[tuple[int, int, int, int, tuple[int, ...]]] = []
        for shape in reversed(shapes):
            if all(_square_iou(shape[1:4], other[1:4]) <= _MAX_IOU for other in kept):
                kept.append(shape)
        return kept[::-1]


def _draw(image: np.ndarray, label: int, x: int, y: int, half: int, color: tuple[int, ...]) -> None:
    if label == 1:
        cv2.rectangle(image, (x - half, y - half), (x + half, y + half), color, -1)
    elif label == 2:
        cv2.circle(image, (x, y), half, color, -1)
    else:
        wide = half / np.sin(np.pi / 3)
        corners = np.array([(x, y - half), (x - wide, y + half), (x + wide, y + half)], np.int32)
        cv2.fillPoly(image, [corners], color)


def _square_iou(a: tuple[int, int, int], b: tuple[int, int, int]) -> float:
    """Return the IoU of two squares (centre x, centre y, half side)."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0] - a[2], b[0] - b[2])
    height = min(a[1] + a[2], b[1] + b[2]) - max(a[1] - a[2], b[1] - b[2])
    shared = max(width, 0) * max(height, 0)
    return shared / (4 * a[2] ** 2 + 4 * b[2] ** 2 - shared)


def _instance(mask: np.ndarray, label: int, number: int) -> Instance:
    """Build the instance of a shape's visible pixels, a boolean `mask` of the whole image."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    box = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
    return Instance(box, label, mask, area=float(mask.sum()), id=number)
