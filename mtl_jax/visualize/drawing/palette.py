"""Colours of classes, which depend only on the class name, and of boxes without a class."""

import colorsys
import zlib

Color = tuple[int, int, int]

GRAY: Color = (150, 150, 150)  # background, and boxes before refinement
GREEN: Color = (40, 170, 60)  # boxes after refinement
RED: Color = (215, 40, 40)

HUES = 24
SHADES = ((0.85, 1.0), (0.5, 1.0), (0.9, 0.8))  # saturation, value: neither too dark nor too pale
SALT = 13995  # found by search: heads, faces, persons, shapes and balloons differ clearly


def class_color(name: str) -> Color:
    """Return the RGB colour of a class, which depends only on its name."""
    # crc32 instead of hash(), which differs between processes.
    code = zlib.crc32(f"{SALT}:{name}".encode())
    saturation, value = SHADES[code // HUES % len(SHADES)]
    rgb = colorsys.hsv_to_rgb(code % HUES / HUES, saturation, value)
    return tuple(round(255 * part) for part in rgb)  # pyright: ignore[reportReturnType]


def text_color(background: Color) -> Color:
    """Return black or white, whichever contrasts more. Source: WCAG 2.1, relative luminance."""
    linear = [
        (part / 255 / 12.92) if part / 255 <= 0.04045 else ((part / 255 + 0.055) / 1.055) ** 2.4
        for part in background
    ]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    # Contrast with black is (L + 0.05) / 0.05, with white 1.05 / (L + 0.05): equal at L = 0.179.
    return (0, 0, 0) if luminance > 0.179 else (255, 255, 255)
