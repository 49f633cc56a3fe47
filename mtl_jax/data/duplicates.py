"""Find the pictures of a set of aligned faces that show nearly the same, so that a split does not
part them.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

SIDE = 32  # of the thumbnails that are compared
# Correlation from which two thumbnails count as one photograph. Of the 21 pairs above 0.8 among
# 6,843 UTKFace chips, 17 are one photograph or the next frame by eye (recoloured, stamped,
# mirrored); of 16 looked at just above 0.75, none is. A 256-bit difference hash has other faces
# among its three nearest pairs: all faces share their layout.
THRESHOLD = 0.8
_ROWS = 512  # compared at a time


def near_duplicates(paths: Sequence[Path], stamps: Sequence[str] = ()) -> list[int]:
    """Give for each picture the first that it is linked to: by likeness, mirrored or not, or by an
    equal stamp.

    Thumbnails keep only what is finer than a quarter of the face, less what all of them share.
    Links carry over: a like b and b like c put a and c together. 6,843 chips take 4 s on two cores.
    """
    first = list(range(len(paths)))
    for i, j in [*_equal(stamps), *_alike(paths)]:
        a, b = _root(first, i), _root(first, j)
        first[max(a, b)] = min(a, b)
    return [_root(first, i) for i in range(len(paths))]


def _root(first: list[int], i: int) -> int:
    while first[i] != i:
        first[i] = first[first[i]]
        i = first[i]
    return i


def _equal(stamps: Sequence[str]) -> list[tuple[int, int]]:
    seen: dict[str, int] = {}
    return [(seen.setdefault(stamp, i), i) for i, stamp in enumerate(stamps)]


def _alike(paths: Sequence[Path]) -> list[tuple[int, int]]:
    if len(paths) < 2:
        return []
    with ThreadPoolExecutor() as threads:
        thumbs = np.stack(list(threads.map(_thumbnail, paths)))
    mirrored = thumbs[:, :, ::-1]
    shared = (
        (thumbs.mean(0) + mirrored.mean(0)) / 2 if len(paths) >= 100 else np.zeros_like(thumbs[0])
    )
    plain, mirrored = _normalise(thumbs - shared), _normalise(mirrored - shared)
    pairs = []
    for other in (plain, mirrored):
        for start in range(0, len(paths), _ROWS):
            rows, columns = np.nonzero(plain[start : start + _ROWS] @ other.T > THRESHOLD)
            rows += start
            pairs += [(int(i), int(j)) for i, j in zip(rows, columns, strict=True) if i < j]
    return pairs


def _thumbnail(path: Path) -> np.ndarray:
    """Give `[SIDE, SIDE]` gray, less its blurred self."""
    image = cv2.imread(str(path), cv2.IMREAD_REDUCED_GRAYSCALE_2)
    if image is None:
        return np.zeros((SIDE, SIDE), np.float32)
    thumb = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    return thumb - cv2.GaussianBlur(thumb, (0, 0), SIDE / 8)


def _normalise(thumbs: np.ndarray) -> np.ndarray:
    """Give `[N, SIDE * SIDE]` of length 1; what shows nothing stays 0, like no other."""
    flat = thumbs.reshape(len(thumbs), -1)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.where(length > 1, flat / np.maximum(length, 1), 0).astype(np.float32)
