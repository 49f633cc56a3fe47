"""The image decoder, shared by training, evaluation and prediction.

OpenCV's libjpeg and libpng write messages to stderr, which do not name the file. Redirecting stderr
would also catch what other threads write. Instead, simplejpeg decodes JPEG files to the same pixels
as OpenCV, and raises libjpeg's messages as exceptions. PNG files are checked before OpenCV reads
them. Other formats cause no messages.
"""

import io
import logging
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from PIL import Image

from mtl_jax.images import headers, png
from mtl_jax.images.geometry import Size
from mtl_jax.images.limits import check_pixels, limit_opencv, max_pixels, read_image_file
from mtl_jax.io.atomic import write_whole
from mtl_jax.io.npy import read_array
from mtl_jax.io.regular import open_regular

# `decode` raises an error for a bad file; OpenCV's messages on stderr are not needed.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
# Pillow would warn at half of the default limit, and refuse images within a larger one.
if Image.MAX_IMAGE_PIXELS is not None:
    Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, limit_opencv())

Levels = tuple[int, int]
ALL_LEVELS: Levels = (0, 65535)
DIM = 0.1  # fraction of the levels; 16-bit images whose values fill less are reported

_BLOCK = 1 << 22  # values that are scaled at a time

_log = logging.getLogger(__name__)
_logged: set[str] = set()


def decode(
    source: str | Path | bytes, channels: int = 3, *, levels: Levels = ALL_LEVELS, name: str = ""
) -> np.ndarray:
    """Decode an image, from a path or bytes, as uint8 `[H, W, channels]`: RGB for 3, gray for 1.

    EXIF orientation is applied, 16 bits are scaled to 8 so that `levels` become 0 and 255, and the
    first frame of an animation is read. An alpha channel is dropped, except that OpenCV blends a
    TIFF's with black. Other numbers of channels are read from a .npy array `[H, W, channels]` of
    uint8 or uint16, from a TIFF with a gray page per channel, or, for 4, from an RGBA image except
    TIFF.

    A JPEG with damaged pixels, and the first 16-bit image with few levels, are logged with `name`,
    by default the path. Raises ValueError if the file cannot be decoded or has more pixels than
    `limits.max_pixels`, OSError if it cannot be read.
    """
    image, notice = decode_with_notice(source, channels, levels)
    if notice:
        place = name or ("an image" if isinstance(source, bytes) else str(source))
        line = f"{place}: {notice}"
        once = "16-bit" if "16-bit" in notice else line
        if once not in _logged:
            _logged.add(once)
            _log.warning("%s", line)
    return image


def decode_with_notice(
    source: str | Path | bytes, channels: int = 3, levels: Levels = ALL_LEVELS
) -> tuple[np.ndarray, str]:
    """Decode as `decode`, and return also what is unusual about the pixels, or ''."""
    data = source if isinstance(source, bytes) else read_image_file(source)
    if not data:
        raise ValueError("the file is empty")
    if size := headers.declared_size(data):
        check_pixels(*size)
    # Decoders fill the missing part of an image with gray, some without an error.
    if headers.is_truncated(data):
        raise ValueError("the image is truncated")
    notice = ""
    if data.startswith(headers.NPY):
        image = _read_array(data)
    elif channels not in (1, 3):
        image = _read_pages(data, channels)
    elif data.startswith(headers.JPEG):
        image, notice = _read_jpeg(data)
    else:
        image = _read_image(data)
    check_pixels(*image.shape[:2])
    if image.dtype == np.uint16:
        notice = _few_levels(image, levels)
    return to_channels(_to_uint8(image, levels), channels), notice


def _few_levels(image: np.ndarray, levels: Levels) -> str:
    low, high = int(image.min()), int(image.max())
    if low == high or high - low >= DIM * (levels[1] - levels[0]):
        return ""
    return (
        f"its 16-bit values, {low} to {high}, fill {(high - low) / (levels[1] - levels[0]):.1%} of "
        f"{levels[0]} to {levels[1]}, and few shades are left in 8 bits; if other images are like "
        f"this, set config.data.levels=({low}, {high}) or the range of all images"
    )


def _read_array(data: bytes) -> np.ndarray:
    image = read_array(io.BytesIO(data), len(data))
    if image.ndim not in (2, 3) or 0 in image.shape:
        raise ValueError(f"expected an array (height, width, channels), got shape {image.shape}")
    return image


def _read_jpeg(data: bytes) -> tuple[np.ndarray, str]:
    """Return pixels `[H, W, 3]`, and a notice if they are damaged."""
    if headers.is_bare_cmyk(data):  # OpenCV would assume inverted inks
        raise ValueError("the JPEG is CMYK without Adobe's marker; save it as RGB")
    try:
        inks = simplejpeg.decode_jpeg_header(data)[2] in ("CMYK", "YCCK")
        image = simplejpeg.decode_jpeg(data, "CMYK" if inks else "RGB")
    except ValueError as error:
        return _read_damaged(data), f"the JPEG is damaged ({error}); its pixels may be wrong"
    if inks:
        return _read_image(data), ""
    return _upright(image, headers.orientation_of(data)), ""


def _read_damaged(data: bytes) -> np.ndarray:
    """Return the pixels of a damaged JPEG, as far as they can be decoded."""
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as file:
            image = np.asarray(file.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"the image cannot be decoded ({error})") from None
    return _upright(image, headers.orientation_of(data))


def _read_image(data: bytes) -> np.ndarray:
    """Return pixels `[H, W, 3]` of 8 or 16 bits, decoded by OpenCV."""
    orientation = 1
    if data.startswith(headers.PNG):
        orientation = headers.orientation_of(data)
        data = png.clean(data)
    try:
        image = cv2.imdecode(
            np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_ANYDEPTH
        )
    except cv2.error as error:
        raise _undecodable(error) from error
    if image is None:
        raise ValueError("not an image that OpenCV can decode")
    return _upright(image, orientation)


def _undecodable(error: cv2.error) -> ValueError:
    if "MAX_IMAGE" in error.err:  # OpenCV's check of a format whose header is not read here
        return ValueError(f"more than {max_pixels():,} pixels; make the image smaller")
    return ValueError(f"the image cannot be decoded ({error.err})")


def _read_pages(data: bytes, channels: int) -> np.ndarray:
    orientation = headers.orientation_of(data)
    if data.startswith(headers.PNG):
        data = png.clean(data, alpha=True)
    if data.startswith(headers.JPEG):
        raise ValueError("a JPEG has one or three channels")
    try:
        _, pages = cv2.imdecodemulti(
            np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED, range=(0, channels + 1)
        )
    except cv2.error as error:
        raise _undecodable(error) from error
    # OpenCV reads a TIFF's fourth sample as opacity, and multiplies the others by it.
    tiff = data.startswith(headers.TIFF)
    if len(pages) == 1 and pages[0].shape[2:] == (4,) and not tiff:
        image = cv2.cvtColor(pages[0], cv2.COLOR_BGRA2RGBA)
        return _upright(image, orientation)
    if not pages or len({page.shape for page in pages}) > 1 or pages[0].ndim != 2:
        raise ValueError(
            "not an image that OpenCV can decode as gray pages of one size, one per channel, as "
            "required for numbers of channels other than 1 and 3"
        )
    return np.dstack(pages)


def _upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """Apply an EXIF orientation to `[H, W, C]`."""
    if orientation == 1:
        return image
    if orientation >= 5:
        image = image.transpose(1, 0, 2)
    down, across = (-1 if orientation in turned else 1 for turned in ((3, 4, 7, 8), (2, 3, 6, 7)))
    return np.ascontiguousarray(image[::down, ::across])


def _to_uint8(image: np.ndarray, levels: Levels) -> np.ndarray:
    if image.dtype == np.uint16:
        low, span = levels[0], levels[1] - levels[0]
        scaled = np.empty(image.shape, np.uint8)
        rows = max(1, _BLOCK // image[0].size)  # a whole image in 32 bits would be the largest copy
        for y in range(0, len(image), rows):
            part = np.clip(image[y : y + rows], *levels).astype(np.uint32) - low
            scaled[y : y + rows] = (255 * part + span // 2) // span
        return scaled
    if image.dtype != np.uint8:
        raise ValueError(f"expected 8 or 16 bits per value, got {image.dtype}")
    return image


def encode_png(image: np.ndarray) -> bytes:
    """Encode uint8 pixels, RGB `[H, W, 3]` or gray `[H, W]`, as the bytes of a PNG file.

    Raises ValueError if OpenCV cannot encode them.
    """
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".png", image)
    if not done:
        raise ValueError(f"OpenCV cannot encode an image of shape {image.shape}")
    return data.tobytes()


def write_png(path: Path, image: np.ndarray) -> None:
    """Write an image as `encode_png` encodes it, atomically. Missing folders are created."""
    with write_whole(path) as draft:
        draft.write_bytes(encode_png(image))


def to_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """Convert uint8 pixels `[H, W]` or `[H, W, C]` to `channels`: gray to RGB or RGB to gray.

    Raises ValueError for other conversions.
    """
    image = image[..., None] if image.ndim == 2 else image
    if image.shape[2] == channels:
        return image
    if image.shape[2] == 1 and channels == 3:
        return np.repeat(image, 3, 2)
    if image.shape[2] == 3 and channels == 1:
        return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
    raise ValueError(f"expected an image with {channels} channels, got {image.shape[2]}")


def reduced_gray(path: str | Path) -> np.ndarray:
    """Decode an image quickly as gray uint8 `[h, w]`, of a JPEG only half of the height and width.

    Raises as `decode`.
    """
    with open(path, "rb") as file:
        if file.read(len(headers.JPEG)) != headers.JPEG:
            return decode_with_notice(path, 1)[0][..., 0]
        try:
            with Image.open(file, formats=("JPEG",)) as image:
                image.draft("L", (image.width // 2, image.height // 2))
                pixels = np.asarray(image.convert("L"))
        except (ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise ValueError(f"the image cannot be decoded ({error})") from None
    return pixels


def image_size(path: str | Path) -> Size:
    """Return (height, width) as displayed; JPEG and PNG are not decoded. Raises as `decode`."""
    with open_regular(path) as file:
        size = headers.displayed_size(file.read(1 << 18))
    if size is None:
        data = read_image_file(path)
        # The pixels are not used, so that nothing about them is logged.
        is_array = data.startswith(headers.NPY)
        image = _read_array(data) if is_array else decode_with_notice(data)[0]
        size = int(image.shape[0]), int(image.shape[1])
    check_pixels(*size)
    return size
