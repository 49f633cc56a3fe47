"""Segmentations of instances in COCO's encodings: decode, encode, and average over the cells of a
grid.
"""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import pycocotools.mask

coco_mask: Any = pycocotools.mask  # its stubs omit polygons and counts as text

Window = tuple[int, int, int, int]  # x1, y1, x2, y2 in whole pixels
# Limits on the polygons of an instance. pycocotools uses 50 bytes for each pixel of an outline, and
# crashes if it cannot allocate them.
MAX_POINTS, MAX_OUTLINE = 100_000, 1_000_000


def check_outline(polygons: Sequence[Sequence[float]], span: float | None = None) -> None:
    """Raise ValueError if polygons are too long to be rasterised: flat lists x, y, x, y, ... in
    pixels. If no coordinate differs from another by more than `span`, short ones are not measured.
    """
    numbers = sum(map(len, polygons))
    if numbers > 2 * MAX_POINTS:
        raise ValueError(
            f"the polygons have {numbers // 2:,} points, more than {MAX_POINTS:,}; use fewer, or "
            "an RLE"
        )
    if span is not None and numbers / 2 * span <= MAX_OUTLINE:
        return
    corners = (np.reshape(polygon, (-1, 2)).astype(float) for polygon in polygons)
    length = sum(float(np.abs(xy - np.roll(xy, 1, 0)).max(1).sum()) for xy in corners)
    if not length <= MAX_OUTLINE:  # also refuses NaN
        raise ValueError(
            f"the polygons have an outline of {length:,.0f} px, more than {MAX_OUTLINE:,}; "
            "correct them, or use an RLE"
        )


def to_mask(segmentation: Any, height: int, width: int, window: Window | None = None) -> np.ndarray:
    """Convert polygons, an RLE or an array to a bool mask `[height, width]`, cropped to `window`.

    Only the window's columns are rasterised for polygons, down to its lower edge. Raises ValueError
    if `segmentation` is not a valid `records.Segmentation` of an image of this size.
    """
    x1, y1, x2, y2 = window or (0, 0, width, height)
    if isinstance(segmentation, list):
        return _draw(segmentation, x1, y1, x2, y2)
    if isinstance(segmentation, dict):
        mask = _decode(segmentation, height, width)
    elif isinstance(segmentation, np.ndarray):
        mask = segmentation.astype(bool, copy=False)
    else:
        raise ValueError(
            "a segmentation must be polygons, an RLE or an array, "
            f"not {type(segmentation).__name__}"
        )
    if mask.shape != (height, width):
        raise ValueError(f"the mask has shape {mask.shape}, expected {(height, width)}")
    return mask[y1:y2, x1:x2]


def _draw(polygons: list[Any], x1: int, y1: int, x2: int, y2: int) -> np.ndarray:
    if not polygons or any(np.ndim(p) != 1 or len(p) < 6 or len(p) % 2 for p in polygons):
        raise ValueError("a polygon must be a flat list x, y, x, y, ... of at least three points")
    check_outline(polygons)
    # The polygons are neither shifted nor clipped at the left or top: pycocotools rounds corners to
    # fifths of a pixel, so a shifted corner could be rounded differently.
    drawn = coco_mask.merge(coco_mask.frPyObjects(polygons, y2, x2))
    runs = read_counts(drawn["counts"])
    edges = np.clip(np.cumsum(runs), x1 * y2, x2 * y2)  # runs are column by column
    inside = np.arange(len(runs)) % 2 == 1
    columns = np.repeat(inside, np.diff(edges, prepend=x1 * y2))
    return columns.reshape(x2 - x1, y2).T[y1:]


def read_counts(counts: bytes) -> np.ndarray:
    """Decode the run lengths of compressed RLE counts; the first run is of zeros. Raises ValueError
    for malformed counts.

    pycocotools does not check counts and writes out of bounds. Source: rleFrString of pycocotools.
    Each character encodes six bits, starting at '0'; the highest bit is set if more follow. From
    the fourth run on, the difference to the run before the previous one is stored.
    """
    codes = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise ValueError("the RLE's counts are not in the compressed format of pycocotools")
    ends = np.flatnonzero((codes & 32) == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > 6:
        raise ValueError("the RLE's counts contain a run of more than 30 bits")
    shift = 5 * (np.arange(len(codes)) - np.repeat(starts, lengths))
    runs = np.add.reduceat((codes & 31) << shift, starts)
    runs -= np.where(codes[ends] & 16, 1 << (5 * lengths), 0)  # two's complement
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    if runs.min() < 0:
        raise ValueError("the RLE's counts contain a negative run")
    return runs


def _decode(segmentation: dict, height: int, width: int) -> np.ndarray:
    if "counts" not in segmentation or list(segmentation.get("size") or ()) != [height, width]:
        raise ValueError(
            f"an RLE requires counts and size [{height}, {width}], the image's height and width"
        )
    counts = segmentation["counts"]
    if isinstance(counts, str | bytes):
        runs = read_counts(counts.encode() if isinstance(counts, str) else counts).tolist()
    elif isinstance(counts, list) and all(type(n) is int and n >= 0 for n in counts):
        runs = counts
    else:
        raise ValueError("the RLE's counts must be a string, or a list of integers from 0 on")
    if sum(runs) != height * width:  # pycocotools would read or write out of bounds
        raise ValueError(f"the RLE's counts sum to {sum(runs)}, expected {height * width}")
    if runs is counts:
        segmentation = coco_mask.frPyObjects(segmentation, height, width)
    try:
        return coco_mask.decode(segmentation).astype(bool)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the RLE cannot be decoded ({error})") from error


def encode(crop: np.ndarray, y: int, x: int, height: int, width: int) -> dict[str, Any]:
    """Encode a mask of an image of `height` x `width` as COCO's RLE. The mask equals `crop` (bool
    `[h, w]`) at row `y` and column `x`, and is False elsewhere.

    Only the crop's columns are read. For small objects in large images this is much cheaper than
    encoding the full mask.
    """
    columns = np.zeros((crop.shape[1], height), np.int8)  # COCO's runs are column by column
    columns[:, y : y + crop.shape[0]] = crop.T
    edges = np.flatnonzero(np.diff(columns.ravel(), prepend=0, append=0)) + x * height
    if len(edges) and edges[-1] == height * width:
        edges = edges[:-1]  # the last run ends with the image
    counts = np.diff(edges, prepend=0, append=height * width)
    rle = coco_mask.frPyObjects({"counts": counts.tolist(), "size": [height, width]}, height, width)
    return {"size": [height, width], "counts": rle["counts"].decode()}


def cell_coverage(mask: np.ndarray, x_edges: np.ndarray, y_edges: np.ndarray) -> np.ndarray:
    """Compute the fraction of each grid cell that a mask (bool `[h, w]`) covers, as uint8
    `[len(y_edges) - 1, len(x_edges) - 1]`, scaled to 0..255.

    Edges are continuous mask coordinates, ascending or descending (a mirrored grid). The result is
    exact: the mask is constant on each pixel, so its integral from the corner is bilinear between
    pixel corners, and the integral over a cell is a difference of four values.
    """
    integral = cv2.integral(mask.astype(np.uint8)).astype(np.float64)
    rows = _interpolate(integral, y_edges)
    corners = _interpolate(rows.T, x_edges).T
    areas = np.diff(y_edges)[:, None] * np.diff(x_edges)
    covered = np.diff(np.diff(corners, axis=0), axis=1) / areas
    return np.rint(np.clip(covered, 0, 1) * 255).astype(np.uint8)


def _interpolate(table: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Interpolate the rows of `table` linearly at fractional positions, clamped to its ends."""
    position = np.clip(position, 0, len(table) - 1)
    below = np.minimum(position.astype(int), len(table) - 2)
    part = (position - below)[:, None]
    return table[below] * (1 - part) + table[below + 1] * part
