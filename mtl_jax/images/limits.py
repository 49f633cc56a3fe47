"""The largest image that is decoded, so that a small file cannot take all memory."""

import os
from pathlib import Path

from mtl_jax.errors import UserError
from mtl_jax.io.regular import read_regular

VARIABLE = "MTL_JAX_MAX_PIXELS"  # environment variable: the limit on height x width
DEFAULT = 178_956_970  # Pillow's limit: twice a quarter of a GiB in RGB
# Bytes of the largest image file: four uncompressed channels with 16 bits, and metadata.
_BYTES_PER_PIXEL, _METADATA = 8, 2**26


def max_pixels() -> int:
    """Return the largest number of pixels of an image. Raises UserError if VARIABLE is invalid."""
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return DEFAULT
    digits = text if text.isascii() and text.isdecimal() and len(text) < 11 else "0"
    if not 0 < int(digits) < 2**32:  # pycocotools counts pixels in 32 bits
        raise UserError(f"{VARIABLE} must be a number of pixels below 2**32, got {text[:40]!r}")
    return int(text)


def limit_opencv() -> int:
    """Apply the limit to every format that OpenCV decodes, and return it.

    Call it before OpenCV is loaded.
    """
    try:
        limit = max_pixels()
    except UserError:  # raised again where an image is read
        limit = DEFAULT
    os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] = str(limit)
    return limit


def check_pixels(height: int, width: int) -> None:
    """Raise ValueError if an image has too many pixels."""
    if height * width > (most := max_pixels()):
        raise ValueError(
            f"{width} x {height} pixels are more than {most:,}; make the image smaller, or set the "
            f"environment variable {VARIABLE}"
        )


def read_image_file(path: str | Path) -> bytes:
    """Read an image file. Raises OSError if it is not a regular file, or larger than an image of
    the largest size.
    """
    return read_regular(path, _BYTES_PER_PIXEL * max_pixels() + _METADATA)
