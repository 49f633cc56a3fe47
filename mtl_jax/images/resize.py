"""The image resizer, shared by training, evaluation and prediction."""

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np

from mtl_jax.images.geometry import Geometry, Size, scale_geometry

MODES = ("shorter", "square", "pad64", "crop", "stretch", "none")


@dataclass(frozen=True)
class ResizeOptions:
    """How an image is resized and padded to the network's input.

    The resized image is at the top left of the padded image; the rest is 0.

    shorter  as torchvision: the shorter side becomes `min_size`, unless the longer side would
             exceed `max_size`
    square   as matterport: enlarged until the shorter side is `min_size`, shrunk until the longer
             side is `max_size`
    pad64    as matterport: enlarged until the shorter side is `min_size`, padded to the next
             multiples of 64
    crop     as matterport: enlarged as pad64, then cropped to a square of side `min_size`, in
             evaluation the middle one
    stretch  height and width are resized separately to the first of `canvases`
    none     neither resized nor padded

    `canvases` are the padded sizes (height, width). `shorter` and `square` use the smallest that
    the resized image fits in, or else the one that allows the largest scale. `pad64` and `none`
    have a padded size, and a compilation, per image size. `zoom` multiplies the scale of the mode.
    """

    mode: str = "shorter"
    min_size: int = 800
    max_size: int = 1333
    canvases: tuple[Size, ...] = ((832, 1344), (1344, 832))
    interpolation: str = "area"  # or float: as torchvision, linear, no antialiasing
    zoom: float = 1.0

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(
                f"data.resize.mode must be one of {', '.join(MODES)}, got {self.mode!r}"
            )
        if self.interpolation not in ("area", "float"):
            raise ValueError(
                f"data.resize.interpolation must be area or float, got {self.interpolation!r}"
            )
        if min(map(min, self.canvases), default=0) < 1:
            raise ValueError(
                f"data.resize.canvases is {self.canvases}; it must be one or more (height, width)"
            )
        limits = {"shorter": (self.min_size, self.max_size), "square": (self.max_size,)}
        if min(limits.get(self.mode, (1,))) < 1 or self.min_size < 0:
            raise ValueError(
                f"data.resize.min_size {self.min_size} and config.data.resize.max_size "
                f"{self.max_size} must be at least 1 for mode {self.mode!r}"
            )
        if not self.zoom > 0:
            raise ValueError(f"data.resize.zoom must be above 0, got {self.zoom}")

    @property
    def dtype(self) -> type[np.generic]:
        """The type of the padded image's pixels."""
        return np.uint8 if self.interpolation == "area" else np.float32

    def zoomed(self, factor: float) -> "ResizeOptions":
        """Return options that resize to `factor` times the size, with padded sizes for it."""
        canvases = tuple(zoom_canvas(canvas, factor) for canvas in self.canvases)
        return replace(self, zoom=self.zoom * factor, canvases=canvases)


def resize_geometry(height: int, width: int, resize: ResizeOptions) -> tuple[Size, Geometry]:
    """Return the padded size (height, width) and the geometry of an image in evaluation."""
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
    """Return `factor` times the padded size, rounded up to multiples of 32; unchanged for 1."""
    if factor == 1:
        return canvas
    height, width = (32 * math.ceil(round(side * factor / 32, 6)) for side in canvas)
    return height, width


def _choose_canvas(
    height: int, width: int, size: Size, canvases: tuple[Size, ...]
) -> tuple[Size, Size]:
    """Return the smallest padded size that `size` fits in, or else the one that reduces the scale
    least, and the resized size.
    """
    fitting = [canvas for canvas in canvases if canvas[0] >= size[0] and canvas[1] >= size[1]]
    if fitting:
        return min(fitting, key=lambda canvas: canvas[0] * canvas[1]), size
    canvas = max(canvases, key=lambda canvas: min(canvas[0] / height, canvas[1] / width))
    scale = min(canvas[0] / height, canvas[1] / width)
    return canvas, (max(1, round(height * scale)), max(1, round(width * scale)))


def resize_and_pad(
    image: np.ndarray, canvas: Size, geometry: Geometry, dtype: type[np.generic] = np.uint8
) -> np.ndarray:
    """Resize an image `[H, W, C]` and pad it with zeros to the size `canvas` (height, width).

    uint8 is resized by area when shrunk and linearly when enlarged, float32 always linearly, as in
    PyTorch. Raises ValueError if the geometry places the image's edges between pixels.
    """
    height, width = image.shape[:2]
    corners = geometry.boxes(np.array([0, 0, width, height], np.float64))
    left, top, right, bottom = (int(edge) for edge in np.rint(corners))
    if np.abs(corners - (left, top, right, bottom)).max() > 1e-3:
        raise ValueError(
            f"the geometry must place the image's edges at whole pixels, got {corners.tolist()}"
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
    """Resize one axis linearly, with PyTorch's float32 weights.

    OpenCV's weights differ by 1e-4 far from the corner, which changes the fourth decimal of a
    network's scores.
    """
    count = image.shape[axis]
    half = np.float32(0.5)
    place = np.float32(count / length) * (np.arange(length, dtype=np.float32) + half) - half
    place = np.maximum(place, 0)
    low = np.minimum(place.astype(int), count - 1)
    high = np.minimum(low + 1, count - 1)
    share = (place - low).astype(np.float32).reshape(-1, *(1,) * (image.ndim - 1 - axis))
    return image.take(low, axis) * (1 - share) + image.take(high, axis) * share
