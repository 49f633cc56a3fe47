"""Coordinate transforms of images that are resized, mirrored, cropped or rotated."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np

Size = tuple[int, int]  # height, width


class Geometry(NamedTuple):
    """The transform from an image to its padded image: x' = scale_x x + shift_x, likewise y'.

    A negative `scale_x` mirrors. Coordinates are continuous: pixel i covers i to i + 1.
    """

    scale_x: float = 1.0
    scale_y: float = 1.0
    shift_x: float = 0.0
    shift_y: float = 0.0

    @property
    def mirrored(self) -> bool:
        return bool(self.scale_x < 0)

    def points(self, xy: np.ndarray) -> np.ndarray:
        """Transform points `[..., 2]`."""
        return np.asarray(xy) * (self.scale_x, self.scale_y) + (self.shift_x, self.shift_y)

    def boxes(self, boxes: np.ndarray) -> np.ndarray:
        """Transform boxes `[..., 4]`; the left edge stays first when mirrored."""
        moved = self.points(np.reshape(boxes, (*np.shape(boxes)[:-1], 2, 2)))
        return np.concatenate([moved.min(-2), moved.max(-2)], -1)

    def after_cut(self, left: float, top: float) -> "Geometry":
        """Return the geometry of the uncropped image, given that of its crop at (left, top)."""
        return self._replace(
            shift_x=self.shift_x - self.scale_x * left, shift_y=self.shift_y - self.scale_y * top
        )

    def inverse(self) -> "Geometry":
        """Return the inverse transform."""
        return Geometry(
            1 / self.scale_x,
            1 / self.scale_y,
            -self.shift_x / self.scale_x,
            -self.shift_y / self.scale_y,
        )


def pixel_centres(index: np.ndarray | Sequence[Any], first: int) -> np.ndarray:
    """Convert pixel indices to the coordinates of the pixels' centres. The first pixel of a row or
    column has the index `first`: 0, or 1 as in MATLAB. Fractions of an index are kept.
    """
    return np.asarray(index, float) - first + 0.5


class Turn(NamedTuple):
    """An in-plane rotation by `degrees` clockwise about the point `centre` (x, y)."""

    degrees: float
    centre: tuple[float, float]

    def points(self, xy: np.ndarray) -> np.ndarray:
        """Transform points `[..., 2]`."""
        angle = np.radians(self.degrees)
        cos, sin = np.cos(angle), np.sin(angle)
        return (np.asarray(xy) - self.centre) @ np.array([[cos, sin], [-sin, cos]]) + self.centre

    def box(self, box: Sequence[float]) -> tuple[float, ...]:
        """Transform the centre of a box; the box stays upright and keeps its size, as annotated
        boxes of rotated heads do.
        """
        low, high = np.asarray(box[:2], float), np.asarray(box[2:], float)
        middle, half = self.points((low + high) / 2), (high - low) / 2
        return *(middle - half).tolist(), *(middle + half).tolist()

    def cut(self, image: np.ndarray, frame: tuple[int, int, int, int]) -> np.ndarray:
        """Rotate an image `[H, W, C]`, C at most 4, and return its part `frame` (x1, y1, x2, y2).

        Beyond its borders the image is mirrored.
        """
        x1, y1, x2, y2 = frame
        x_axis, y_axis, origin = self.points(np.array([[1.5, 0.5], [0.5, 1.5], [0.5, 0.5]]))
        matrix = np.stack([x_axis - origin, y_axis - origin, origin - (x1 + 0.5, y1 + 0.5)], -1)
        size, channels = (x2 - x1, y2 - y1), image.shape[2]
        turned = cv2.warpAffine(image, matrix, size, borderMode=cv2.BORDER_REFLECT)
        return turned.reshape(size[1], size[0], channels)


def scale_geometry(
    height: int, width: int, size: Size, offset: Size = (0, 0), mirrored: bool = False
) -> Geometry:
    """Return the geometry that resizes an image to `size`, mirrors it, and removes the first
    `offset` (rows, columns).
    """
    scale_y, scale_x = size[0] / height, size[1] / width
    if mirrored:
        return Geometry(-scale_x, scale_y, size[1] - offset[1], -offset[0])
    return Geometry(scale_x, scale_y, -offset[1], -offset[0])


def covered_box(height: int, width: int, canvas: Size, geometry: Geometry) -> np.ndarray:
    """Return the box `[4]` of the padded image, of size `canvas`, that the image covers."""
    box = geometry.boxes(np.array([0, 0, width, height], np.float64))
    return np.clip(box, 0, [canvas[1], canvas[0], canvas[1], canvas[0]])
