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

    Polygons cost no more than their own extent within the picture. What is annotated may be
    anything; raises ValueError that says what is wrong where it is no `records.Segmentation`.
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
    # pycocotools rounds towards 0: it draws an outline exactly where no number is negative.
    low = np.floor(np.min([np.reshape(p, (-1, 2)).min(0) for p in polygons], 0)).astype(int)
    left, top = max(0, min(x1, int(low[0]))), max(0, min(y1, int(low[1])))
    moved = [(np.reshape(p, (-1, 2)) - (left, top)).ravel().tolist() for p in polygons]
    encoded = coco_mask.frPyObjects(moved, y2 - top, x2 - left)
    return coco_mask.decode(coco_mask.merge(encoded)).astype(bool)[y1 - top :, x1 - left :]


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
