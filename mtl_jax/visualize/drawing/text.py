"""Text in any script, drawn with fonts that are installed.

The fonts are, in this order: Matplotlib's DejaVu Sans (Latin, Greek, Cyrillic, Hebrew, Arabic), the
system's fonts, and the font inside OpenCV 5 (Chinese, Japanese, Korean). A character that none of
them has is drawn as its code point, so that names can be told apart.
"""

import logging
import unicodedata
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mtl_jax.visualize.drawing.palette import Color

_MATPLOTLIB = find_spec("matplotlib")  # which is not imported: this takes 0.15 s
assert _MATPLOTLIB is not None
assert _MATPLOTLIB.origin is not None
DEJAVU = str(Path(_MATPLOTLIB.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf")
CAPITAL = 0.73  # height of DejaVu's capital letters, in font sizes
OPENCV = "OpenCV"  # in place of the path of a font
_HAS_FONT = int(cv2.__version__.partition(".")[0]) >= 5
_SPECIAL = (
    "bold",
    "black",
    "heavy",
    "italic",
    "oblique",
    "thin",
    "light",
    "serif",
    "mono",
    "emoji",
)

_log = logging.getLogger(__name__)
Run = tuple[str, str]  # a font, and text that it draws


class Drawn(NamedTuple):
    """A line of text as opacity `[h, w]` uint8, and the row of its baseline."""

    opacity: np.ndarray
    baseline: int


def width_of(text: str, size: int) -> int:
    """Return the width in pixels of a line in a font of `size` pixels."""
    return sum(_run_width(run, size) for run in _runs(text))


def draw_text(text: str, size: int) -> Drawn:
    """Draw a line in a font of `size` pixels."""
    rows, baseline = round(1.7 * size), round(1.25 * size)
    opacity = np.zeros((rows, max(width_of(text, size), 1)), np.uint8)
    x = 0
    for run in _runs(text):
        width = _run_width(run, size)
        opacity[:, x : x + width] |= _draw_run(run, size, rows, baseline, width)
        x += width
    return Drawn(opacity, baseline)


def write(image: np.ndarray, text: str, at: tuple[int, int], size: int, color: Color) -> None:
    """Write a line on RGB pixels in place, with the left end of its baseline `at` (x, y)."""
    opacity, baseline = draw_text(text, size)
    x, y = at[0], at[1] - baseline
    left, top = max(-x, 0), max(-y, 0)
    window = image[y + top : y + len(opacity), x + left : x + opacity.shape[1]]
    part = opacity[top : top + window.shape[0], left : left + window.shape[1], None] / 255
    window[:] = np.rint(window + part * (np.array(color) - window))


def is_simple(text: str) -> bool:
    """Return whether DejaVu Sans has all characters of a text, and it runs from left to right."""
    return all(
        _has(DEJAVU, letter) and unicodedata.bidirectional(letter) not in ("R", "AL")
        for letter in text
    )


@lru_cache(1024)
def _runs(text: str) -> tuple[Run, ...]:
    """Divide a line into parts that one font draws."""
    text = unicodedata.normalize("NFC", " ".join(text.split()))
    runs: list[Run] = []
    for letter in filter(str.isprintable, text):
        font = runs[-1][0] if runs and _has(runs[-1][0], letter) else _font_of(letter)
        part = letter if font else f"U+{ord(letter):04X}"
        font = font or DEJAVU
        if runs and runs[-1][0] == font:
            runs[-1] = font, runs[-1][1] + part
        else:
            runs.append((font, part))
    return tuple(runs)


@lru_cache(None)
def _font_of(letter: str) -> str:
    """Return a font that has a character, or ''."""
    if _has(DEJAVU, letter):
        return DEJAVU  # without a search for the others
    found = next((font for font in _fonts() if _has(font, letter)), "")
    if not found:
        _report(unicodedata.name(letter, "unnamed").partition(" ")[0].capitalize())
    return found


@lru_cache(None)
def _report(script: str) -> None:
    _log.warning(
        "no font has the characters of the script %s, which are drawn as code points; install a "
        "font for it, such as Noto Sans",
        script,
    )


@lru_cache(None)
def _fonts() -> tuple[str, ...]:
    from matplotlib.font_manager import findSystemFonts  # takes seconds on its first use

    def order(path: str) -> tuple[bool, str]:
        name = Path(path).stem.lower()
        return any(word in name for word in _SPECIAL), path

    return DEJAVU, *sorted(findSystemFonts(), key=order), *((OPENCV,) if _HAS_FONT else ())


def _has(font: str, letter: str) -> bool:
    if font == OPENCV:
        return _opencv_has(letter)
    if font == DEJAVU and letter.isascii() and letter.isprintable():
        return True
    return ord(letter) in _letters(font)


@lru_cache(None)
def _letters(font: str) -> frozenset[int]:
    """Return the code points of a font file; none if it cannot be drawn at any size."""
    from matplotlib.ft2font import FT2Font

    try:
        _load(font, 16)
        return frozenset(FT2Font(font).get_charmap())
    except (OSError, RuntimeError, ValueError):
        return frozenset()


@lru_cache(None)
def _opencv_has(letter: str) -> bool:
    if ord(letter) < 128:
        return True
    drawn, missing = (_draw_run((OPENCV, text), 24, 40, 30, 48) for text in (letter, "?"))
    return bool(drawn.any()) and not np.array_equal(drawn, missing)


@lru_cache(64)
def _load(font: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(font, size)


def _direction(font: ImageFont.FreeTypeFont) -> Any:
    """Return the direction of a line, which requires the layout engine Raqm."""
    return "ltr" if font.layout_engine == ImageFont.Layout.RAQM else None


def _run_width(run: Run, size: int) -> int:
    if run[0] == OPENCV:
        rectangle: Any = cv2.getTextSize((8192, 8192), run[1], (0, 0), cv2.FontFace("uni"), size)
        return int(rectangle[0] + rectangle[2]) + max(size // 12, 1)
    font = _load(run[0], size)
    return int(np.ceil(font.getlength(run[1], direction=_direction(font))))


def _draw_run(run: Run, size: int, rows: int, baseline: int, width: int) -> np.ndarray:
    """Draw a run as opacity `[rows, width]`."""
    if run[0] == OPENCV:
        drawn = np.zeros((rows, width), np.uint8)
        cv2.putText(drawn, run[1], (0, baseline), (255,), cv2.FontFace("uni"), size)
        return drawn
    font = _load(run[0], size)
    image = Image.new("L", (width, rows))
    ImageDraw.Draw(image).text(
        (0, baseline), run[1], 255, font, anchor="ls", direction=_direction(font)
    )
    return np.asarray(image)
