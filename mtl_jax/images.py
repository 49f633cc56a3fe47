"""The one decoder and resizer: training, evaluation and prediction see the same pixels. NumPy and
OpenCV alone.
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from mtl_jax import image_headers
from mtl_jax.whole_files import write_whole

# What is wrong with a file is said by the error of `decode`, not by lines on stderr.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

MODES = ("shorter", "square", "pad64", "crop", "stretch", "none")
Size = tuple[int, int]  # height, width


class Geometry(NamedTuple):
    """Where a picture's points come to lie on the canvas: x' = scale_x x + shift_x, and y' alike.

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
        """Carry points `[..., 2]` over."""
        return np.asarray(xy) * (self.scale_x, self.scale_y) + (self.shift_x, self.shift_y)

    def boxes(self, boxes: np.ndarray) -> np.ndarray:
        """Carry boxes `[..., 4]` over; the left edge stays left when mirrored."""
        moved = self.points(np.reshape(boxes, (*np.shape(boxes)[:-1], 2, 2)))
        return np.concatenate([moved.min(-2), moved.max(-2)], -1)

    def after_cut(self, left: float, top: float) -> "Geometry":
        """Give the geometry of a picture of which this one's was cut, from (left, top) on."""
        return self._replace(
            shift_x=self.shift_x - self.scale_x * left, shift_y=self.shift_y - self.scale_y * top
        )

    def inverse(self) -> "Geometry":
        return Geometry(
            1 / self.scale_x,
            1 / self.scale_y,
            -self.shift_x / self.scale_x,
            -self.shift_y / self.scale_y,
        )


class Turn(NamedTuple):
    """A turn in the picture's plane, by `degrees` clockwise about the point `centre` (x, y)."""

    degrees: float
    centre: tuple[float, float]

    def points(self, xy: np.ndarray) -> np.ndarray:
        """Carry points `[..., 2]` over."""
        angle = np.radians(self.degrees)
        cos, sin = np.cos(angle), np.sin(angle)
        return (np.asarray(xy) - self.centre) @ np.array([[cos, sin], [-sin, cos]]) + self.centre

    def box(self, box: Sequence[float]) -> tuple[float, ...]:
        """Carry the centre of a box over; it stays upright and as large, as annotated boxes do when
        a head is turned.
        """
        low, high = np.asarray(box[:2], float), np.asarray(box[2:], float)
        middle, half = self.points((low + high) / 2), (high - low) / 2
        return *(middle - half).tolist(), *(middle + half).tolist()

    def cut(self, image: np.ndarray, frame: tuple[int, int, int, int]) -> np.ndarray:
        """Give what a picture `[H, W, C]`, C at most 4, shows in `frame` once it is turned; beyond
        its borders it is mirrored.
        """
        x1, y1, x2, y2 = frame
        x_axis, y_axis, origin = self.points(np.array([[1.5, 0.5], [0.5, 1.5], [0.5, 0.5]]))
        matrix = np.stack([x_axis - origin, y_axis - origin, origin - (x1 + 0.5, y1 + 0.5)], -1)
        size, channels = (x2 - x1, y2 - y1), image.shape[2]
        turned = cv2.warpAffine(image, matrix, size, borderMode=cv2.BORDER_REFLECT)
        return turned.reshape(size[1], size[0], channels)


@dataclass(frozen=True)
class ResizeOptions:
    """How a picture is brought to the network's input; it lies at the canvas's top left, the rest
    is 0.

    shorter  torchvision's: the shorter side becomes `min_size` unless the longer would exceed
             `max_size`
    square   matterport's: enlarged until the shorter side is `min_size`, shrunk until the longer is
             `max_size`
    pad64    matterport's: enlarged until the shorter side is `min_size`; the canvas is the next
             multiple of 64
    crop     matterport's: enlarged as pad64; the canvas is a `min_size` square of it, the middle
             one in evaluation
    stretch  height and width each on its own to those of the first of `canvases`
    none     the picture as it is; the canvas is as large

    `shorter` and `square` take the smallest of `canvases` (height, width) that holds the picture at
    the wanted scale, else the one that allows the largest scale. The other modes have a canvas, and
    a compilation, for each size. The wanted scale is the mode's times `zoom`.
    """

    mode: str = "shorter"
    min_size: int = 800
    max_size: int = 1333
    canvases: tuple[Size, ...] = ((832, 1344), (1344, 832))
    interpolation: str = "area"  # float: torchvision's, linear without smoothing, in float32
    zoom: float = 1.0

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"data.resize.mode {self.mode!r} is none of {', '.join(MODES)}")
        if self.interpolation not in ("area", "float"):
            raise ValueError(
                f"data.resize.interpolation {self.interpolation!r} is neither area nor float"
            )
        if not self.canvases:
            raise ValueError("data.resize.canvases is empty; give at least one (height, width)")
        if not self.zoom > 0:
            raise ValueError(f"data.resize.zoom {self.zoom} must be more than 0")

    @property
    def dtype(self) -> type[np.generic]:
        """The type of the canvas's pixels."""
        return np.uint8 if self.interpolation == "area" else np.float32

    def zoomed(self, factor: float) -> "ResizeOptions":
        """Give the options that bring pictures to `factor` times the size, on canvases for it."""
        canvases = tuple(zoomed(canvas, factor) for canvas in self.canvases)
        return replace(self, zoom=self.zoom * factor, canvases=canvases)


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
    if data.startswith(image_headers.NPY):
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
    if image_headers.is_truncated(data):
        raise ValueError("the picture is truncated")
    if image_headers.is_bare_cmyk(data):  # OpenCV would take its inks for inverted
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
        return _upright(image, image_headers.orientation_of(data))
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


def picture_size(path: str | Path) -> Size:
    """Give (height, width) as displayed, a JPEG's or PNG's undecoded. Raises as `decode`."""
    with open(path, "rb") as file:
        size = image_headers.displayed_size(file.read(1 << 18))
    if size is None:
        data = Path(path).read_bytes()
        image = _read_array(data) if data.startswith(image_headers.NPY) else decode(data)
        size = int(image.shape[0]), int(image.shape[1])
    return size


def fit(height: int, width: int, resize: ResizeOptions) -> tuple[Size, Geometry]:
    """Give the canvas of a picture and where evaluation puts the picture on it."""
    zoom = resize.zoom
    if resize.mode == "none":
        size = max(1, round(height * zoom)), max(1, round(width * zoom))
        return size, scaled(height, width, size)
    if resize.mode == "stretch":
        canvas = resize.canvases[0]
        return canvas, scaled(height, width, canvas)
    short, long = min(height, width), max(height, width)
    if resize.mode == "shorter":
        scale = min(resize.min_size / short, resize.max_size / long) * zoom
        size = max(1, int(height * scale)), max(1, int(width * scale))  # torchvision rounds down
    else:
        scale = max(1.0, resize.min_size / short)
        if resize.mode == "square":
            scale = min(scale, resize.max_size / long)
        scale *= zoom
        size = max(1, round(height * scale)), max(1, round(width * scale))
    if resize.mode == "pad64":
        return (-(-size[0] // 64) * 64, -(-size[1] // 64) * 64), scaled(height, width, size)
    if resize.mode == "crop":
        side = round(resize.min_size * zoom)
        canvas = side, side
        return canvas, scaled(
            height, width, size, ((size[0] - canvas[0]) // 2, (size[1] - canvas[1]) // 2)
        )
    canvas, size = _choose_canvas(height, width, size, resize.canvases)
    return canvas, scaled(height, width, size)


def zoomed(canvas: Size, factor: float) -> Size:
    """Give the canvas that holds `factor` times what `canvas` does, of whole multiples of 32."""
    if factor == 1:
        return canvas
    height, width = (32 * math.ceil(round(side * factor / 32, 6)) for side in canvas)
    return height, width


def _choose_canvas(
    height: int, width: int, size: Size, canvases: tuple[Size, ...]
) -> tuple[Size, Size]:
    """Give the smallest canvas that holds `size`, else the one that cuts the scale least, and the
    size on it.
    """
    holding = [canvas for canvas in canvases if canvas[0] >= size[0] and canvas[1] >= size[1]]
    if holding:
        return min(holding, key=lambda canvas: canvas[0] * canvas[1]), size
    canvas = max(canvases, key=lambda canvas: min(canvas[0] / height, canvas[1] / width))
    scale = min(canvas[0] / height, canvas[1] / width)
    return canvas, (max(1, round(height * scale)), max(1, round(width * scale)))


def scaled(
    height: int, width: int, size: Size, offset: Size = (0, 0), mirrored: bool = False
) -> Geometry:
    """Give the geometry that resizes a picture to `size`, mirrors it, and cuts `offset` rows,
    columns off.
    """
    scale_y, scale_x = size[0] / height, size[1] / width
    if mirrored:
        return Geometry(-scale_x, scale_y, size[1] - offset[1], -offset[0])
    return Geometry(scale_x, scale_y, -offset[1], -offset[0])


def covered(height: int, width: int, canvas: Size, geometry: Geometry) -> np.ndarray:
    """Give the canvas box `[4]` that the picture covers."""
    box = geometry.boxes(np.array([0, 0, width, height], np.float64))
    return np.clip(box, 0, [canvas[1], canvas[0], canvas[1], canvas[0]])


def place(
    image: np.ndarray, canvas: Size, geometry: Geometry, dtype: type[np.generic] = np.uint8
) -> np.ndarray:
    """Resize `[H, W, C]` and put it on a canvas of zeros.

    uint8 is resized by area when shrinking and linearly when growing, float32 always linearly and
    as by PyTorch.
    Raises ValueError where the geometry puts the picture's edges between pixels.
    """
    height, width = image.shape[:2]
    corners = geometry.boxes(np.array([0, 0, width, height], np.float64))
    left, top, right, bottom = (int(edge) for edge in np.rint(corners))
    if np.abs(corners - (left, top, right, bottom)).max() > 1e-3:
        raise ValueError(
            f"the geometry puts the picture's edges between pixels, at {corners.tolist()}"
        )
    size = (right - left, bottom - top)
    image = _resize(image.astype(dtype, copy=False), size)
    if geometry.mirrored:
        image = cv2.flip(image, 1).reshape(image.shape)
    out = np.zeros((*canvas, image.shape[2]), dtype)
    x1, y1, x2, y2 = max(left, 0), max(top, 0), min(right, canvas[1]), min(bottom, canvas[0])
    if x2 > x1 and y2 > y1:
        out[y1:y2, x1:x2] = image[y1 - top : y2 - top, x1 - left : x2 - left]
    return out


def _resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize `[H, W, C]` to (width, height)."""
    height, width, channels = image.shape
    if size == (width, height):
        return image
    if image.dtype == np.float32:
        return _interpolate(_interpolate(image, size[1], axis=0), size[0], axis=1)
    shrinks = size[0] <= width and size[1] <= height
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    if channels <= 4:
        return cv2.resize(image, size, interpolation=how).reshape(size[1], size[0], channels)
    return np.dstack([_resize(image[..., i : i + 4], size) for i in range(0, channels, 4)])


def _interpolate(image: np.ndarray, length: int, axis: int) -> np.ndarray:
    """Resize one axis linearly, with PyTorch's float32 weights, from which OpenCV's differ by 1e-4
    far from the corner; scores of a network to the fourth decimal see it.
    """
    count = image.shape[axis]
    half = np.float32(0.5)
    place = np.float32(count / length) * (np.arange(length, dtype=np.float32) + half) - half
    place = np.maximum(place, 0)
    low = np.minimum(place.astype(int), count - 1)
    high = np.minimum(low + 1, count - 1)
    share = (place - low).astype(np.float32).reshape(-1, *(1,) * (image.ndim - 1 - axis))
    return image.take(low, axis) * (1 - share) + image.take(high, axis) * share
