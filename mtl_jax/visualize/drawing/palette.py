"""The colour of each class, the same in every run, whatever other classes a model knows; and
those of boxes that have none.
"""

import colorsys
import zlib

Color = tuple[int, int, int]

GRAY: Color = (150, 150, 150)  # background, and where a box began
GREEN: Color = (40, 170, 60)  # where it ends
RED: Color = (215, 40, 40)

HUES = 24
SHADES = ((0.85, 1.0), (0.5, 1.0), (0.9, 0.8))  # saturation, value: none too dark or too pale
SALT = 13995  # found by search: heads, faces, persons, shapes and balloons lie far apart


def class_color(name: str) -> Color:
    """Give the RGB colour of a class by its name alone."""
    # crc32 and not hash(): the latter changes from one process to the next.
    code = zlib.crc32(f"{SALT}:{name}".encode())
    saturation, value = SHADES[code // HUES % len(SHADES)]
    rgb = colorsys.hsv_to_rgb(code % HUES / HUES, saturation, value)
    return tuple(round(255 * part) for part in rgb)  # pyright: ignore[reportReturnType]


def text_color(background: Color) -> Color:
    """Give black or white, whichever stands out more. Source: WCAG 2.1, relative luminance."""
    linear = [
        (part / 255 / 12.92) if part / 255 <= 0.04045 else ((part / 255 + 0.055) / 1.055) ** 2.4
        for part in background
    ]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    # Contrast with black is (L + 0.05) / 0.05, with white 1.05 / (L + 0.05): equal at L = 0.179.
    return (0, 0, 0) if luminance > 0.179 else (255, 255, 255)
