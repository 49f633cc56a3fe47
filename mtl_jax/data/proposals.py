"""Selective search: boxes of a picture that may hold things, found once and kept on disk.

Source: Uijlings et al., Selective Search for Object Recognition, 2013, by OpenCV's ximgproc.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from mtl_jax.data.options import RegionOptions
from mtl_jax.data.records import Record, Source
from mtl_jax.data.transforms import read
from mtl_jax.whole_files import write_whole

MIN_SIDE = 8  # pixels of the searched picture; smaller boxes are not given


def selective_search(image: np.ndarray, kind: str, longest: int) -> np.ndarray:
    """Give boxes `[P, 4]` of a picture `[H, W, 3]` in whole pixels of it, sorted, each once.

    `kind` is fast or quality. A picture with a side above `longest` is shrunk for the search.
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


class Proposals:
    """The boxes of a source's pictures, by position; `folder` holds a file for each content and
    setting.
    """

    def __init__(self, source: Source, options: RegionOptions, folder: Path):
        self.source, self.options, self.folder = source, options, folder
        self._paths: dict[int, Path] = {}  # a picture has many regions, and is read once for them

    def __call__(self, position: int) -> np.ndarray:
        """Give boxes `[P, 4]`. Raises ValueError, or OSError of a file, for an unreadable
        picture.
        """
        path = self._paths.get(position)
        if path is None:
            path = self.folder / f"{self._key(self.source[position])}.npz"
            self._paths[position] = path
        if path.is_file():
            with np.load(path, allow_pickle=False) as stored:
                return stored["boxes"]
        o = self.options
        boxes = selective_search(read(self.source[position], 3), o.proposals, o.search_side)
        with write_whole(path) as draft, open(draft, "wb") as file:
            np.savez_compressed(file, boxes=boxes)
        return boxes

    def _key(self, record: Record) -> str:
        if isinstance(record.image, np.ndarray):
            content = record.image.tobytes()
        else:
            content = record.image if isinstance(record.image, bytes) else record.image.read_bytes()
        setting = f"{self.options.proposals} {self.options.search_side} {cv2.__version__} "
        setting += f"{record.height} {record.width} "
        return hashlib.sha256(setting.encode() + content).hexdigest()


def search_all(proposals: Sequence[Proposals]) -> None:
    """Search every picture that is not yet, with a bar on a terminal. A picture that cannot be read
    is left to who reads it for training.
    """
    pairs = [(one, i) for one in proposals for i in range(len(one.source))]
    for one, i in tqdm(pairs, desc="selective search", unit="picture", disable=None):
        try:
            one(i)
        except (ValueError, OSError):
            continue
