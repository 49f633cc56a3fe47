"""The one resizer: training, evaluation and prediction resize alike."""

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np

from mtl_jax.images.geometry import Geometry, Size, scale_geometry

MODES = ("shorter", "square", "pad64", "crop", "stretch", "none")


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
        canvases = tuple(zoom_canvas(canvas, factor) for canvas in self.canvases)
        return replace(self, zoom=self.zoom * factor, canvases=canvases)


def resize_geometry(height: int, width: int, resize: ResizeOptions) -> tuple[Size, Geometry]:
    """Give the canvas of a picture and where evaluation puts the picture on it."""
    zoom = resize.zoom
    if resize.mode == "none":
        size = max(1, round(height * zoom)), max(1, round(width * zoom))
        return size, scale_geometry(height, width, size)
    if resize.mode == "stretch":
        canvas = resize.canvases[0]
        return canvas, scale_geometry(height, width, canvas)
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
        return (-(-size[0] // 64) * 64, -(-size[1] // 64) * 64), scale_geometry(height, width, size)
    if resize.mode == "crop":
        side = round(resize.min_size * zoom)
        canvas = side, side
        return canvas, scale_geometry(
            height, width, size, ((size[0] - canvas[0]) // 2, (size[1] - canvas[1]) // 2)
        )
    canvas, size = _choose_canvas(height, width, size, resize.canvases)
    return canvas, scale_geometry(height, width, size)


def zoom_canvas(canvas: Size, factor: float) -> Size:
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


def resize_and_pad(
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
