"""The one decoder: training, evaluation and prediction see the same pixels."""

import io
from pathlib import Path

import cv2
import numpy as np

from mtl_jax.images import headers
from mtl_jax.images.geometry import Size
from mtl_jax.io.atomic import write_whole

# What is wrong with a file is said by the error of `decode`, not by lines on stderr.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def decode(source: str | Path | bytes, channels: int = 3) -> np.ndarray:
    """Read a picture, from its path or its bytes, as uint8 `[H, W, channels]`: RGB for 3, gray for
    1.

    EXIF orientation is applied, 16 bits are scaled to 8, of an animation the first frame is read.
    Transparency is dropped, so that the colour under it shows (of a TIFF OpenCV shows it on black).
    Another number of channels comes from a .npy array `[H, W, channels]` of uint8 or uint16, from a
    TIFF with a gray page for each channel, or, for 4, from an RGBA picture that is no TIFF.
    Raises ValueError that says what is wrong with the file, OSError where it cannot be read.
    """
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    if not data:
        raise ValueError("the file is empty")
    if data.startswith(headers.NPY):
        image = _read_array(data)
    else:
        image = _read_picture(data) if channels in (1, 3) else _read_pages(data)
    return to_channels(_to_uint8(image), channels)


def _read_array(data: bytes) -> np.ndarray:
    image = np.load(io.BytesIO(data), allow_pickle=False)
    if image.ndim not in (2, 3) or 0 in image.shape:
        raise ValueError(f"the array has shape {image.shape}, not (height, width, channels)")
    return image


def _read_picture(data: bytes) -> np.ndarray:
    # OpenCV before version 5 fills the missing part of a JPEG with gray and says nothing.
    if headers.is_truncated(data):
        raise ValueError("the picture is truncated")
    if headers.is_bare_cmyk(data):  # OpenCV would take its inks for inverted
        raise ValueError("the JPEG is CMYK without Adobe's marker; save it as RGB")
    try:
        image = cv2.imdecode(
            np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_ANYDEPTH
        )
    except cv2.error as error:
        raise ValueError(f"the picture cannot be decoded ({error.err})") from error
    if image is None:
        raise ValueError("not a picture that OpenCV can decode")
    return image


def _read_pages(data: bytes) -> np.ndarray:
    try:
        _, pages = cv2.imdecodemulti(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ValueError(f"the picture cannot be decoded ({error.err})") from error
    # Of a TIFF's fourth sample OpenCV makes an opacity, and multiplies the others with it.
    tiff = data[:4] in (b"II*\0", b"MM\0*")
    if len(pages) == 1 and pages[0].shape[2:] == (4,) and not tiff:
        image = cv2.cvtColor(pages[0], cv2.COLOR_BGRA2RGBA)
        return _upright(image, headers.orientation_of(data))
    if not pages or len({page.shape for page in pages}) > 1 or pages[0].ndim != 2:
        raise ValueError(
            "not a picture with gray pages of one size, of which channels but 1 and 3 are made, or "
            "not one that OpenCV can decode"
        )
    return np.dstack(pages)


def _upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """Apply EXIF's orientation to `[H, W, C]`, as OpenCV does not where it keeps the opacity."""
    if orientation >= 5:
        image = image.transpose(1, 0, 2)
    down, across = (-1 if orientation in turned else 1 for turned in ((3, 4, 7, 8), (2, 3, 6, 7)))
    return np.ascontiguousarray(image[::down, ::across])


def _to_uint8(image: np.ndarray) -> np.ndarray:
    if image.dtype == np.uint16:
        return ((image.astype(np.uint32) + 128) // 257).astype(
            np.uint8
        )  # 65535 becomes 255, rounded between
    if image.dtype != np.uint8:
        raise ValueError(f"the picture holds {image.dtype} values; 8 or 16 bits are read")
    return image


def encode_png(image: np.ndarray) -> bytes:
    """Give RGB `[H, W, 3]` or gray `[H, W]` pixels of uint8 as a PNG file's bytes."""
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".png", image)
    if not done:
        raise ValueError(f"OpenCV cannot encode a picture of shape {image.shape}")
    return data.tobytes()


def write_png(path: Path, image: np.ndarray) -> None:
    """Write what `encode_png` gives, whole or not at all, with the folders that the path needs."""
    with write_whole(path) as draft:
        draft.write_bytes(encode_png(image))


def to_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """Bring uint8 pixels `[H, W]` or `[H, W, C]` to `channels`; gray and RGB become each other."""
    image = image[..., None] if image.ndim == 2 else image
    if image.shape[2] == channels:
        return image
    if image.shape[2] == 1 and channels == 3:
        return np.repeat(image, 3, 2)
    if image.shape[2] == 3 and channels == 1:
        return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
    raise ValueError(f"the picture has {image.shape[2]} channels, not {channels}")


def image_size(path: str | Path) -> Size:
    """Give (height, width) as displayed, a JPEG's or PNG's undecoded. Raises as `decode`."""
    with open(path, "rb") as file:
        size = headers.displayed_size(file.read(1 << 18))
    if size is None:
        data = Path(path).read_bytes()
        image = _read_array(data) if data.startswith(headers.NPY) else decode(data)
        size = int(image.shape[0]), int(image.shape[1])
    return size
