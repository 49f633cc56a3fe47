"""Labels on an image: blocks of text that stay inside it and do not overlap each other."""

from collections.abc import Sequence

import numpy as np

from mtl_jax.visualize.drawing import text
from mtl_jax.visualize.drawing.palette import Color, text_color

LINE = 1.6  # line spacing, in heights of capital letters
CROWDED = 0.5  # boxes; a label that hides more is written once per class, with one line
Rectangle = tuple[int, int, int, int]  # x, y, width, height


def text_height(height: int, width: int) -> int:
    """Return the line spacing in pixels for an image of `height` x `width`.

    Text is readable on a thumbnail, and on a large image that is scaled to fit a screen.
    """
    return max(13, round(max(height, width) / 45))


class Labels:
    """Writes labels on one image, the most important first, and keeps track of their positions.

    Labels avoid the image's `boxes` `[D, 4]` if possible.
    """

    def __init__(self, height: int, width: int, boxes: np.ndarray):
        self._size = (height, width)
        self._boxes = np.reshape(boxes, (-1, 4)).astype(float)
        self._line = text_height(height, width)
        self._pad = max(self._line // 6, 2)
        self._font = round(self._line / LINE / text.CAPITAL)
        self._taken: list[Rectangle] = []
        self._written: set[str] = set()

    def put(
        self, image: np.ndarray, box: np.ndarray, name: str, lines: Sequence[str], color: Color
    ) -> bool:
        """Write all `lines` at `box`, or only the first, or nothing, depending on the space.

        Returns whether something was written. `name` is the class name, `color` the background.
        """
        for block in (lines, lines[:1]):
            block = self._fit(block)
            places = [
                place
                for place in self._places(box, *self._measure(block))
                if not any(_meet(place, other) for other in self._taken)
            ]
            if not places:
                continue
            hidden = [self._hides(place) for place in places]
            best = int(np.argmin(hidden))
            crowded = hidden[best] > CROWDED and len(self._boxes) > 1
            if crowded and (len(block) > 1 or name in self._written):
                continue
            self._write(image, places[best], block, color)
            self._written.add(name)
            return True
        return False

    def _fit(self, lines: Sequence[str]) -> list[str]:
        """Drop or shorten lines that do not fit the image."""
        height, width = self._size
        room = max((height - self._pad) // self._line, 1)
        return [self._shorten(line, width - 2 * self._pad) for line in lines[:room]]

    def _measure(self, lines: Sequence[str]) -> tuple[int, int]:
        widest = max(text.width_of(line, self._font) for line in lines)
        return min(widest + 2 * self._pad, self._size[1]), len(lines) * self._line + self._pad

    def _places(self, box: np.ndarray, width: int, height: int) -> list[Rectangle]:
        """Return possible positions, the best first: above the box, below, beside, inside."""
        left, top, right, bottom = (round(float(v)) for v in box)
        corners = [
            (left, top - height),
            (left, bottom),
            (right - width, top - height),
            (right - width, bottom),
            (right, top),
            (left - width, top),
            (right, bottom - height),
            (left - width, bottom - height),
            (left, top),
            (left, bottom - height),
            (right - width, top),
            (right - width, bottom - height),
        ]
        most_x, most_y = self._size[1] - width, max(self._size[0] - height, 0)
        inside = [(min(max(x, 0), most_x), min(max(y, 0), most_y)) for x, y in corners]
        # Positions that were moved into the image come last: they may be away from the box.
        order = sorted(range(len(corners)), key=lambda i: corners[i] != inside[i])
        return [(*inside[i], width, height) for i in order]

    def _hides(self, place: Rectangle) -> float:
        """Return the number of boxes a label would cover; parts of boxes count as fractions."""
        start, stop = np.array(place[:2]), np.array(place[:2]) + place[2:]
        sides = np.minimum(self._boxes[:, 2:], stop) - np.maximum(self._boxes[:, :2], start)
        areas = (self._boxes[:, 2:] - self._boxes[:, :2]).prod(1)
        return float((np.clip(sides, 0, None).prod(1) / np.maximum(areas, 1)).sum())

    def _write(
        self, image: np.ndarray, place: Rectangle, lines: Sequence[str], color: Color
    ) -> None:
        x, y, width, height = place
        self._taken.append(place)
        image[y : y + height, x : x + width] = color
        for i, line in enumerate(lines):
            # The baseline that centres capital letters vertically in their line.
            low = y + self._pad // 2 + round((i + 0.5 + 0.5 / LINE) * self._line)
            text.write(image, line, (x + self._pad, low), self._font, text_color(color))

    def _shorten(self, line: str, limit: int) -> str:
        if text.width_of(line, self._font) <= limit:
            return line
        while line and text.width_of(line + "..", self._font) > limit:
            line = line[:-1]
        return line + ".." if line else ""


def _meet(a: Rectangle, b: Rectangle) -> bool:
    return a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]
