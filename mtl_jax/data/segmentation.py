"""An instance's segmentation, in any of COCO's encodings: read, encoded, and averaged over the
cells of a grid.
"""

from typing import Any

import cv2
import numpy as np
import pycocotools.mask

coco_mask: Any = pycocotools.mask  # its stubs know no polygons and no counts as text

Window = tuple[int, int, int, int]  # x1, y1, x2, y2 in whole pixels


def to_mask(segmentation: Any, height: int, width: int, window: Window | None = None) -> np.ndarray:
    """Draw polygons or RLE, or take an array, as bool `[height, width]`, or its part within
    `window`.

    Polygons cost no more than the window's columns, down to its lower edge. What is annotated may
    be anything; raises ValueError that says what is wrong where it is no `records.Segmentation`.
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
            f"a segmentation is polygons, RLE or an array, not {type(segmentation).__name__}"
        )
    if mask.shape != (height, width):
        raise ValueError(f"the mask is {mask.shape} where the picture is {(height, width)}")
    return mask[y1:y2, x1:x2]


def _draw(polygons: list[Any], x1: int, y1: int, x2: int, y2: int) -> np.ndarray:
    if not polygons or any(np.ndim(p) != 1 or len(p) < 6 or len(p) % 2 for p in polygons):
        raise ValueError("a polygon is a flat list x, y, x, y, ... of three points or more")
    # Neither moved nor cut at the left or top: pycocotools rounds corners to fifths of a pixel, and
    # would round a moved one otherwise.
    drawn = coco_mask.merge(coco_mask.frPyObjects(polygons, y2, x2))
    runs = read_counts(drawn["counts"])
    edges = np.clip(np.cumsum(runs), x1 * y2, x2 * y2)  # the runs go down the columns
    inside = np.arange(len(runs)) % 2 == 1
    columns = np.repeat(inside, np.diff(edges, prepend=x1 * y2))
    return columns.reshape(x2 - x1, y2).T[y1:]


def read_counts(counts: bytes) -> np.ndarray:
    """Give the lengths of the runs, of zeros first, that compressed counts hold. Raises ValueError
    where they cannot be read.

    pycocotools checks neither and writes past its memory. Source: rleFrString of pycocotools: six
    bits a character from '0' on, of which the fifth says that more follow; from the fourth run on
    the difference to the last but one.
    """
    codes = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise ValueError("the RLE's counts hold what pycocotools does not write")
    ends = np.flatnonzero((codes & 32) == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > 6:
        raise ValueError("the RLE's counts hold a run of more than 30 bits")
    shift = 5 * (np.arange(len(codes)) - np.repeat(starts, lengths))
    runs = np.add.reduceat((codes & 31) << shift, starts)
    runs -= np.where(codes[ends] & 16, 1 << (5 * lengths), 0)  # two's complement
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    if runs.min() < 0:
        raise ValueError("the RLE's counts hold a negative run")
    return runs


def _decode(segmentation: dict, height: int, width: int) -> np.ndarray:
    if not {"size", "counts"} <= set(segmentation) or tuple(segmentation["size"]) != (
        height,
        width,
    ):
        raise ValueError(
            f"an RLE needs counts and size [{height}, {width}], the picture's height and width"
        )
    counts = segmentation["counts"]
    if isinstance(counts, list):
        if sum(counts) != height * width:  # pycocotools would read past the end of its memory
            raise ValueError(f"the RLE's counts sum to {sum(counts)}, not {height * width}")
        segmentation = coco_mask.frPyObjects(segmentation, height, width)
    try:
        return coco_mask.decode(segmentation).astype(bool)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the RLE cannot be decoded ({error})") from error


def encode(crop: np.ndarray, y: int, x: int, height: int, width: int) -> dict[str, Any]:
    """Encode a mask that is `crop` (bool `[h, w]`) at row y and column x of the picture, false
    elsewhere, as COCO's RLE.

    Only the crop's columns are read: for a small thing on a large picture far cheaper than the
    picture's own mask.
    """
    columns = np.zeros((crop.shape[1], height), np.int8)  # COCO's runs go down the columns
    columns[:, y : y + crop.shape[0]] = crop.T
    edges = np.flatnonzero(np.diff(columns.ravel(), prepend=0, append=0)) + x * height
    if len(edges) and edges[-1] == height * width:
        edges = edges[:-1]  # the last run ends with the picture
    counts = np.diff(edges, prepend=0, append=height * width)
    rle = coco_mask.frPyObjects({"counts": counts.tolist(), "size": [height, width]}, height, width)
    return {"size": [height, width], "counts": rle["counts"].decode()}


def cell_coverage(mask: np.ndarray, x_edges: np.ndarray, y_edges: np.ndarray) -> np.ndarray:
    """Give how much of each cell bool `[h, w]` covers, as uint8 `[len(y_edges) - 1, len(x_edges) -
    1]` of 255.

    Edges are continuous mask coordinates, rising or falling (a mirrored grid). Exact: the mask is
    constant on each pixel, so its integral from the corner is linear between pixel corners, and a
    cell is a difference of four.
    """
    integral = cv2.integral(mask.astype(np.uint8)).astype(np.float64)
    rows = _interpolate(integral, y_edges)
    corners = _interpolate(rows.T, x_edges).T
    areas = np.diff(y_edges)[:, None] * np.diff(x_edges)
    covered = np.diff(np.diff(corners, axis=0), axis=1) / areas
    return np.rint(np.clip(covered, 0, 1) * 255).astype(np.uint8)


def _interpolate(table: np.ndarray, position: np.ndarray) -> np.ndarray:
    """Read rows of `table` at fractional positions, linearly; beyond its ends the end."""
    position = np.clip(position, 0, len(table) - 1)
    below = np.minimum(position.astype(int), len(table) - 2)
    part = (position - below)[:, None]
    return table[below] * (1 - part) + table[below + 1] * part
