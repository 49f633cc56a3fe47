"""Selective search: object proposals of an image, computed once and cached on disk.

Source: Uijlings et al., Selective Search for Object Recognition, 2013, by OpenCV's ximgproc.
"""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from mtl_jax.config.options.data import RegionOptions
from mtl_jax.data.pixels import materialize, read_pixels
from mtl_jax.data.records import Record, Source
from mtl_jax.errors import UserError
from mtl_jax.images.decode import to_channels
from mtl_jax.images.geometry import Size
from mtl_jax.images.limits import read_image_file
from mtl_jax.io.atomic import write_whole
from mtl_jax.io.npy import read_archive
from mtl_jax.types import Inputs, Proposals

LARGEST = 2**24  # bytes of an image's stored boxes: a million boxes
MIN_SIDE = 8  # pixels of the searched image; smaller boxes are discarded


def selective_search(image: np.ndarray, kind: str, longest: int) -> np.ndarray:
    """Return the proposals `[P, 4]` of an image (uint8 `[H, W, 3]`, RGB) in whole pixels, sorted
    and without duplicates.

    `kind` is fast or quality. An image with a side above `longest` pixels is shrunk for the search.
    """
    height, width = image.shape[:2]
    scale = min(1.0, longest / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image
    search.setBaseImage(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
    if kind == "fast":
        search.switchToSelectiveSearchFast()
    else:
        search.switchToSelectiveSearchQuality()
    x, y, w, h = np.asarray(search.process(), np.int64).reshape(-1, 4).T
    large = (w >= MIN_SIDE) & (h >= MIN_SIDE)
    boxes = np.stack([x, y, x + w, y + h], -1)[large]
    factor = np.array([width / size[0], height / size[1]] * 2)
    boxes = np.minimum(np.rint(boxes * factor).astype(np.int32), [width, height] * 2)
    return np.unique(boxes, axis=0)


class SearchedSource:
    """The proposals of a source's images, by position, cached in `folder` with one file for each
    image content and setting.
    """

    def __init__(self, source: Source, options: RegionOptions, folder: Path):
        self.source, self.options, self.folder = source, options, folder
        self._paths: dict[int, Path] = {}  # an image is hashed once for all of its regions

    def __call__(self, position: int) -> np.ndarray:
        """Return boxes `[P, 4]`. Raises ValueError, or OSError for a file, if the image cannot be
        read.
        """
        path = self._paths.get(position)
        if path is None:
            record = materialize(self.source[position])
            path = self.folder / _file_name(
                _content(record), (record.height, record.width), self.options
            )
            self._paths[position] = path
        o = self.options
        return _kept(
            path,
            lambda: selective_search(
                read_pixels(self.source[position], 3), o.proposals, o.search_side
            ),
        )


@dataclass(frozen=True)
class BatchSearch:
    """Adds proposals to a batch, at most `count` boxes for each image.

    The search sees the image as the model does, resized. Results are cached in `folder` if it is
    not None. Raises ValueError for images with other than 1 or 3 channels.
    """

    options: RegionOptions
    count: int
    folder: Path | None = None

    def __call__(self, inputs: Inputs) -> Inputs:
        boxes = np.zeros((len(inputs.valid), self.count, 4), np.float32)
        valid = np.zeros(boxes.shape[:2], bool)
        for row in np.flatnonzero(inputs.valid):
            height, width = inputs.sizes[row].astype(int)
            found = self._search(inputs.images[row, :height, :width])
            if len(found) > self.count:
                # The boxes are sorted from left to right; this keeps some everywhere in the image.
                found = found[np.linspace(0, len(found) - 1, self.count).astype(int)]
            boxes[row, : len(found)], valid[row, : len(found)] = found, True
        return inputs._replace(proposals=Proposals(boxes, valid))

    def _search(self, pixels: np.ndarray) -> np.ndarray:
        whole = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
        image, o = to_channels(whole, 3), self.options

        def search() -> np.ndarray:
            return selective_search(image, o.proposals, o.search_side)

        if self.folder is None:
            return search()
        return _kept(self.folder / _file_name(image.tobytes(), image.shape[:2], o), search)


def _kept(path: Path, search: Callable[[], np.ndarray]) -> np.ndarray:
    """Return the boxes stored in `path`; if there are none, or the file is broken, search and write
    it.
    """
    if path.is_file():
        with suppress(Exception):  # a broken archive can raise any exception
            stored = read_archive(path, LARGEST)["boxes"]
            if stored.dtype.kind == "i" and stored.shape[1:] == (4,):
                return stored
    boxes = search()
    with write_whole(path) as draft, open(draft, "wb") as file:
        np.savez_compressed(file, boxes=boxes)
    return boxes


def _file_name(content: bytes, size: Size, options: RegionOptions) -> str:
    setting = f"{options.proposals} {options.search_side} {cv2.__version__} {size[0]} {size[1]} "
    return f"{hashlib.sha256(setting.encode() + content).hexdigest()}.npz"


def _content(record: Record) -> bytes:
    if isinstance(record.image, np.ndarray):
        return record.image.tobytes()
    return record.image if isinstance(record.image, bytes) else read_image_file(record.image)


def search_all(proposals: Sequence[SearchedSource]) -> None:
    """Search all images that are not cached yet, with a progress bar on a terminal. Unreadable
    images are skipped here and reported when they are loaded.
    """
    pairs = [(one, i) for one in proposals for i in range(len(one.source))]
    for one, i in tqdm(pairs, desc="selective search", unit="image", disable=None):
        try:
            one(i)
        except (UserError, ValueError, OSError):
            continue
