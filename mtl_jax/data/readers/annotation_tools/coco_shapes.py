"""What is wrong with a COCO annotation's box, polygons or run lengths."""

import math
import reprlib
from collections.abc import Iterable, Mapping
from typing import Any

import pycocotools.mask

from mtl_jax.data.records import Box
from mtl_jax.data.segmentation import read_counts

coco_mask: Any = pycocotools.mask  # its stubs know no counts as text
SLACK = 1.0  # pixels that a coordinate may lie outside the picture; it is clipped
NUMBERS = frozenset((int, float))


def shape_fault(annotation: Mapping[str, Any], width: int, height: int) -> tuple[str, Box | None]:
    """Say what is wrong with box or mask; give the box, from the mask where none is annotated."""
    segmentation, bbox = segmentation_of(annotation), annotation.get("bbox")
    if segmentation is not None:
        wrong = _segmentation_fault(segmentation, width, height)
        if wrong:
            return wrong, None
    elif not bbox:
        return "has neither bbox nor segmentation; give one or remove it", None
    if bbox is None or bbox == []:
        bbox = _box_of(segmentation)
    return _box_fault(bbox, width, height)


def segmentation_of(annotation: Mapping[str, Any]) -> Any:
    """Give an annotation's segmentation, None where it has none: of a box alone some tools write
    [] or [[]].
    """
    segmentation = annotation.get("segmentation")
    return None if segmentation in ([], [[]]) else segmentation


def _box_fault(bbox: Any, width: int, height: int) -> tuple[str, Box | None]:
    if type(bbox) is not list or len(bbox) != 4 or not NUMBERS.issuperset(map(type, bbox)):
        return f"bbox is {reprlib.repr(bbox)}; give [x, y, width, height]", None
    if not is_finite(bbox):
        return f"bbox is {reprlib.repr(bbox)}, which is not finite; correct or remove it", None
    x, y, w, h = bbox
    if w <= 0 or h <= 0:
        return f"bbox {reprlib.repr(bbox)} has no area; correct or remove it", None
    box = max(x, 0.0), max(y, 0.0), min(x + w, float(width)), min(y + h, float(height))
    outside = max(-x, -y, x + w - width, y + h - height)
    if outside > SLACK or box[0] >= box[2] or box[1] >= box[3]:
        return (
            f"bbox {reprlib.repr(bbox)} lies {outside:.4g} px outside the picture of "
            f"{width} x {height}; correct or remove it"
        ), None
    return "", tuple(map(float, box))  # type: ignore[return-value]


def is_finite(values: Iterable[Any]) -> bool:
    try:
        return math.isfinite(sum(values))
    except OverflowError:  # a whole number beyond any float
        return False


def _segmentation_fault(segmentation: Any, width: int, height: int) -> str:
    if type(segmentation) is list:
        for polygon in segmentation:
            wrong = _polygon_fault(polygon, width, height)
            if wrong:
                return wrong
        return ""
    if type(segmentation) is dict:
        return _rle_fault(segmentation, width, height)
    return f"segmentation is {reprlib.repr(segmentation)}; give polygons or an RLE"


def _polygon_fault(polygon: Any, width: int, height: int) -> str:
    if type(polygon) is not list:
        return f"a polygon is {reprlib.repr(polygon)}; give a flat list x, y, x, y, ..."
    if len(polygon) < 6 or len(polygon) % 2:
        return f"a polygon has {len(polygon)} numbers; give x, y of three points or more"
    if not NUMBERS.issuperset(map(type, polygon)):
        return f"the polygon {reprlib.repr(polygon)} holds what is no number; correct it"
    if not is_finite(polygon):
        return f"the polygon {reprlib.repr(polygon)} is not finite; correct it"
    right, bottom = max(polygon[::2]) - width, max(polygon[1::2]) - height
    outside = max(-min(polygon), right, bottom)
    if outside > SLACK:
        return (
            f"a polygon lies {outside:.4g} px outside the picture of {width} x {height}; "
            "correct or remove it"
        )
    return ""


def _rle_fault(rle: Mapping[str, Any], width: int, height: int) -> str:
    size, counts = rle.get("size"), rle.get("counts")
    if size != [height, width]:
        return (
            f"its RLE is of size {reprlib.repr(size)} where the picture is [{height}, {width}] "
            "(height, width); encode it again"
        )
    pixels = _count_pixels(counts)
    if pixels is None:
        return f"its RLE's counts {reprlib.repr(counts)} cannot be read; encode it again"
    if pixels != width * height:
        return f"its RLE covers {pixels} pixels of {width * height}; encode it again"
    return ""


def _count_pixels(counts: Any) -> int | None:
    """Give the pixels that an RLE's counts cover, None where they cannot be read."""
    if isinstance(counts, str):
        try:
            return int(read_counts(counts.encode("ascii")).sum())
        except ValueError:  # a UnicodeEncodeError is one
            return None
    if isinstance(counts, list) and all(type(c) is int and c >= 0 for c in counts):
        return sum(counts)
    return None


def _box_of(segmentation: Any) -> list[float]:
    """Give [x, y, width, height] of a good segmentation."""
    if isinstance(segmentation, list):
        x = [value for polygon in segmentation for value in polygon[::2]]
        y = [value for polygon in segmentation for value in polygon[1::2]]
        return [min(x), min(y), max(x) - min(x), max(y) - min(y)]
    rle = segmentation
    if isinstance(rle["counts"], list):
        rle = coco_mask.frPyObjects(rle, *rle["size"])
    return coco_mask.toBbox(rle).tolist()
