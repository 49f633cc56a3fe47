"""Find the pictures of a set of aligned faces that show nearly the same, so that a split does not
part them.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import cv2
import numpy as np

SIDE = 32  # of the thumbnails that are compared
# Correlation from which two thumbnails count as one photograph. Of the 21 pairs above 0.8 among
# 6,843 UTKFace chips, 17 are one photograph or the next frame by eye (recoloured, stamped,
# mirrored); of 16 looked at just above 0.75, none is. A 256-bit difference hash has other faces
# among its three nearest pairs: all faces share their layout.
THRESHOLD = 0.8
# Rows above most masks, and the correlation of these. Of 300 UTKFace chips and two masked copies of
# each, 99.2 % of the copies are above it, and 20 of 2.6 million pairs of different chips.
UPPER, UPPER_THRESHOLD = 10, 0.85
_ROWS = 512  # compared at a time


def near_duplicates(
    pictures: Sequence[Path | np.ndarray], stamps: Sequence[str] = (), masked: bool = False
) -> list[int]:
    """Give for each picture the first that it is linked to: by likeness, mirrored or not, or by an
    equal stamp.

    Pictures are files, or gray pixels `[H, W]`. With `masked`, those whose upper parts alone are
    alike are linked too: a face and its copies in masks. Thumbnails keep only what is finer than a
    quarter of the face, less what all of them share.
    Links carry over: a like b and b like c put a and c together. 6,843 chips take 4 s on two cores.
    """
    return _first_linked(len(pictures), chain(_equal(stamps), _alike(pictures, masked)))


def equal_in_any(*stamps: Sequence[str]) -> list[int]:
    """Give for each thing the first that it is linked to, by one of its stamps."""
    return _first_linked(len(stamps[0]), chain.from_iterable(map(_equal, stamps)))


def _first_linked(count: int, links: Iterable[tuple[int, int]]) -> list[int]:
    first = list(range(count))
    for i, j in links:  # of an album, millions
        a, b = _root(first, i), _root(first, j)
        first[max(a, b)] = min(a, b)
    return [_root(first, i) for i in range(count)]


def _root(first: list[int], i: int) -> int:
    while first[i] != i:
        first[i] = first[first[i]]
        i = first[i]
    return i


def _equal(stamps: Sequence[str]) -> list[tuple[int, int]]:
    seen: dict[str, int] = {}
    return [(seen.setdefault(stamp, i), i) for i, stamp in enumerate(stamps)]


def _alike(pictures: Sequence[Path | np.ndarray], masked: bool) -> Iterator[tuple[int, int]]:
    if len(pictures) < 2:
        return
    with ThreadPoolExecutor() as threads:
        thumbs = np.stack(list(threads.map(_thumbnail, pictures)))
    yield from _correlated(thumbs, THRESHOLD)
    if masked:
        yield from _correlated(thumbs[:, :UPPER], UPPER_THRESHOLD)


def _correlated(thumbs: np.ndarray, threshold: float) -> Iterator[tuple[int, int]]:
    mirrored = thumbs[:, :, ::-1]
    shared = (
        (thumbs.mean(0) + mirrored.mean(0)) / 2 if len(thumbs) >= 100 else np.zeros_like(thumbs[0])
    )
    plain, mirrored = _normalise(thumbs - shared), _normalise(mirrored - shared)
    for other in (plain, mirrored):
        for start in range(0, len(thumbs), _ROWS):
            rows, columns = np.nonzero(plain[start : start + _ROWS] @ other.T > threshold)
            rows += start
            for i, j in zip(rows.tolist(), columns.tolist(), strict=True):
                if i < j:
                    yield i, j


def _thumbnail(picture: Path | np.ndarray) -> np.ndarray:
    """Give `[SIDE, SIDE]` gray, less its blurred self."""
    if isinstance(picture, np.ndarray):
        image = picture
    else:
        image = cv2.imread(str(picture), cv2.IMREAD_REDUCED_GRAYSCALE_2)
    if image is None:
        return np.zeros((SIDE, SIDE), np.float32)
    thumb = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    return thumb - cv2.GaussianBlur(thumb, (0, 0), SIDE / 8)


def _normalise(thumbs: np.ndarray) -> np.ndarray:
    """Give `[N, SIDE * SIDE]` of length 1; what shows nothing stays 0, like no other."""
    flat = thumbs.reshape(len(thumbs), -1)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.where(length > 1, flat / np.maximum(length, 1), 0).astype(np.float32)
