"""Check the box, polygons or run-length encoding (RLE) of a COCO annotation."""

import math
import reprlib
from collections.abc import Iterable, Mapping
from typing import Any

import pycocotools.mask

from mtl_jax.data.records import Box
from mtl_jax.data.segmentation import check_outline, read_counts

coco_mask: Any = pycocotools.mask  # its stubs do not accept counts as text
SLACK = 1.0  # pixels by which a coordinate may lie outside the image; it is clipped
NUMBERS = frozenset((int, float))


def shape_fault(annotation: Mapping[str, Any], width: int, height: int) -> tuple[str, Box | None]:
    """Return what is wrong with box or mask, or '', and the box (x1, y1, x2, y2), which is computed
    from the mask if it is not annotated; None if there is no valid one.
    """
    segmentation, bbox = segmentation_of(annotation), annotation.get("bbox")
    if segmentation is not None:
        wrong = _segmentation_fault(segmentation, width, height)
        if wrong:
            return wrong, _box_fault(bbox, width, height)[1]
    elif not bbox:
        return "requires bbox or segmentation; add one or remove the annotation", None
    if bbox is None or bbox == []:
        bbox = _box_of(segmentation)
    return _box_fault(bbox, width, height)


def segmentation_of(annotation: Mapping[str, Any]) -> Any:
    """Return the segmentation of an annotation, or None. Some tools write [] or [[]] for a box
    without a mask.
    """
    segmentation = annotation.get("segmentation")
    return None if segmentation in ([], [[]]) else segmentation


def _box_fault(bbox: Any, width: int, height: int) -> tuple[str, Box | None]:
    if type(bbox) is not list or len(bbox) != 4 or not NUMBERS.issuperset(map(type, bbox)):
        return f"bbox must be [x, y, width, height], got {reprlib.repr(bbox)}", None
    if not is_finite(bbox):
        return f"bbox must be finite, got {reprlib.repr(bbox)}; correct or remove it", None
    x, y, w, h = bbox
    if w <= 0 or h <= 0:
        return f"bbox {reprlib.repr(bbox)} has no area; correct or remove it", None
    box = max(x, 0.0), max(y, 0.0), min(x + w, float(width)), min(y + h, float(height))
    outside = max(-x, -y, x + w - width, y + h - height)
    if outside > SLACK or box[0] >= box[2] or box[1] >= box[3]:
        return (
            f"bbox {reprlib.repr(bbox)} lies {outside:.4g} px outside the image of "
            f"{width} x {height}; correct or remove it"
        ), None
    return "", tuple(map(float, box))  # type: ignore[return-value]


def is_finite(values: Iterable[Any]) -> bool:
    try:
        return math.isfinite(sum(map(abs, values)))  # without abs, large numbers could cancel
    except OverflowError:  # a whole number beyond the range of floats
        return False


def _segmentation_fault(segmentation: Any, width: int, height: int) -> str:
    if type(segmentation) is list:
        for polygon in segmentation:
            wrong = _polygon_fault(polygon, width, height)
            if wrong:
                return wrong
        try:
            check_outline(segmentation, max(width, height) + 2 * SLACK)
        except ValueError as error:
            return str(error)
        return ""
    if type(segmentation) is dict:
        return _rle_fault(segmentation, width, height)
    return f"segmentation must be polygons or an RLE, got {reprlib.repr(segmentation)}"


def _polygon_fault(polygon: Any, width: int, height: int) -> str:
    if type(polygon) is not list:
        return f"a polygon must be a flat list x, y, x, y, ..., got {reprlib.repr(polygon)}"
    if len(polygon) < 6 or len(polygon) % 2:
        return f"a polygon must be x, y of three points or more, got {len(polygon)} numbers"
    if not NUMBERS.issuperset(map(type, polygon)):
        return f"a polygon must be numbers, got {reprlib.repr(polygon)}; correct it"
    if not is_finite(polygon):
        return f"a polygon must be finite, got {reprlib.repr(polygon)}; correct it"
    right, bottom = max(polygon[::2]) - width, max(polygon[1::2]) - height
    outside = max(-min(polygon), right, bottom)
    if outside > SLACK:
        return (
            f"a polygon lies {outside:.4g} px outside the image of {width} x {height}; "
            "correct or remove it"
        )
    return ""


def _rle_fault(rle: Mapping[str, Any], width: int, height: int) -> str:
    size, counts = rle.get("size"), rle.get("counts")
    if size != [height, width]:
        return (
            f"the RLE has size {reprlib.repr(size)}, but the image has [{height}, {width}] "
            "(height, width); encode the mask again"
        )
    pixels = _count_pixels(counts)
    if pixels is None:
        return f"the RLE's counts {reprlib.repr(counts)} cannot be read; encode the mask again"
    if pixels != width * height:
        return f"the RLE covers {pixels} pixels of {width * height}; encode the mask again"
    return ""


def _count_pixels(counts: Any) -> int | None:
    """Return the number of pixels that an RLE's counts cover, or None if they cannot be read."""
    if isinstance(counts, str):
        try:
            return int(read_counts(counts.encode("ascii")).sum())
        except ValueError:  # includes UnicodeEncodeError
            return None
    if isinstance(counts, list) and all(type(c) is int and c >= 0 for c in counts):
        return sum(counts)
    return None


def _box_of(segmentation: Any) -> list[float]:
    """Return [x, y, width, height] of a valid segmentation."""
    if isinstance(segmentation, list):
        x = [value for polygon in segmentation for value in polygon[::2]]
        y = [value for polygon in segmentation for value in polygon[1::2]]
        return [min(x), min(y), max(x) - min(x), max(y) - min(y)]
    rle = segmentation
    if isinstance(rle["counts"], list):
        rle = coco_mask.frPyObjects(rle, *rle["size"])
    return coco_mask.toBbox(rle).tolist()
