"""Read LabelMe's annotations: a JSON file beside each image.

Source: https://github.com/wkentaro/labelme, `label_file.py` and `shape.py` of versions 3 to 5.
"""

import base64
import math
import os
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pycocotools.mask

from mtl_jax.data.readers.annotation_tools.coco import coco_source
from mtl_jax.data.readers.annotation_tools.coco_shapes import NUMBERS, is_finite, shape_fault
from mtl_jax.data.readers.annotation_tools.outlines import ellipse
from mtl_jax.data.readers.coco_lists import CocoLists, Collector, find_files, parse_json, read_each
from mtl_jax.data.readers.folders import list_images
from mtl_jax.data.readers.format import Block, Format, Labels, find_subfolder
from mtl_jax.data.readers.image_files import Named
from mtl_jax.data.records import Source
from mtl_jax.data.segmentation import encode
from mtl_jax.images import headers
from mtl_jax.images.decode import decode
from mtl_jax.images.limits import check_pixels
from mtl_jax.io.regular import read_regular

coco_mask: Any = pycocotools.mask  # its stubs do not accept polygons


class _File(NamedTuple):
    """The fields of a file that are used."""

    image: str  # the path of the image, relative to the file
    height: int
    width: int
    shapes: list[Any]
    is_embedded: bool  # the file contains a copy of the image


def read_labelme(folder: Path, images: Path) -> CocoLists:
    """Read every JSON file below `folder`. The class of a shape is its label. Shapes of an image
    with the same label and `group_id` are one instance. Flags and attributes are attributes.

    Polygons, circles and masks become masks, and rectangles become boxes without a mask.
    """
    collector = Collector(folder)
    files: dict[str, _File] = {}
    named = []
    for path, file in read_each(_read, find_files(folder, ".json")):
        record = path.relative_to(folder).as_posix()
        if isinstance(file, ValueError):
            collector.add_fault(record, str(file))
        else:
            files[record] = file
            named.append(_named(path, file.image, folder, images))
    found = collector.find_images(images, named)
    for image, (path, fault, _), (record, file) in zip(named, found, files.items(), strict=True):
        name = path or image.name  # the check of images reports a missing one
        if fault and file.is_embedded:
            fault = f"{fault.partition(';')[0]}; save the copy in its imageData as {file.image}"
            collector.add_fault(record, fault)
        elif collector.add_image(name, file.height, file.width):
            _add_instances(collector, record, name, file)
    return collector.finish()


def _read(path: Path) -> _File:
    found = parse_json(read_regular(path))
    if not isinstance(found, dict) or not isinstance(found.get("shapes"), list):
        raise ValueError("has no list of shapes; expected a file of LabelMe")
    image, sizes = found.get("imagePath"), (found.get("imageHeight"), found.get("imageWidth"))
    if not isinstance(image, str) or not image:
        raise ValueError(f"its imagePath must name the image, got {reprlib.repr(image)}")
    height, width = sizes if all(type(s) is int and s > 0 for s in sizes) else (0, 0)
    check_pixels(height or 0, width or 0)
    return _File(image, height or 0, width or 0, found["shapes"], bool(found.get("imageData")))


def _named(path: Path, image: str, folder: Path, images: Path) -> Named:
    """Return the image of the file `path` below `folder`: its path below `images`, if it is an
    image there, else as in the file.
    """
    above, text = path.parent, image.replace("\\", "/")
    near = os.path.relpath(above, images if images in (above, *above.parents) else folder)
    below = Path(os.path.relpath(above / text, images)).as_posix()
    is_there = not below.startswith("../") and os.path.isfile(images / below)
    return Named(below if is_there else text, near.removeprefix("."), path.stem)


def _add_instances(collector: Collector, record: str, name: str, file: _File) -> None:
    groups: dict[Any, list[tuple[str, Mapping]]] = {}
    for place, shape in enumerate(file.shapes):
        where = f"{record} shapes[{place}]"
        label = shape.get("label") if isinstance(shape, Mapping) else None
        if not isinstance(label, str) or not label:
            collector.add_fault(where, "has no label; add one or remove the shape")
            continue
        number = shape.get("group_id")
        key = where if number is None else (label, repr(number))
        groups.setdefault(key, []).append((where, shape))
    for members in groups.values():
        where, first = members[0]
        try:
            parts = [_as_coco(shape, file.height, file.width) for _, shape in members]
            shape = parts[0] if len(parts) == 1 else _unite(parts, file.height, file.width)
        except ValueError as error:
            collector.drop_instance(name, where, first["label"], str(error))
            continue
        collector.add_instance(name, where, first["label"], shape, _labels(first))


def _labels(shape: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flags (0 or 1), the attributes and the description of a shape."""
    found = {}
    for key in ("flags", "attributes"):
        part = shape.get(key)
        found |= part if isinstance(part, Mapping) else {}
    if shape.get("description"):
        found["description"] = shape["description"]
    return {name: int(v) if isinstance(v, bool) else v for name, v in found.items()}


def _as_coco(shape: Mapping[str, Any], height: int, width: int) -> dict[str, Any]:
    """Convert a shape to COCO's bbox or segmentation. Raises ValueError if it is invalid."""
    kind, points = shape.get("shape_type") or "polygon", shape.get("points")
    if not isinstance(points, list) or not all(_is_point(point) for point in points):
        raise ValueError("its points must be a list of x, y; correct or remove it")
    if kind == "polygon":
        return {"segmentation": [[value for point in points for value in point]]}
    if kind not in ("rectangle", "circle", "mask"):
        raise ValueError(f"its shape is {reprlib.repr(kind)}, which has no area; remove it")
    if kind == "rectangle" and len(points) in (2, 4):  # X-AnyLabeling writes all four corners
        x, y = zip(*points, strict=True)
        return {"bbox": [min(x), min(y), max(x) - min(x), max(y) - min(y)]}
    if len(points) != 2:
        raise ValueError(f"its {kind} has {len(points)} points, expected 2; correct or remove it")
    (x1, y1), (x2, y2) = points
    if kind == "circle":  # its centre, and a point on it
        radius = math.hypot(x2 - x1, y2 - y1)
        return {"segmentation": [ellipse(x1, y1, radius, radius, 0.0, height, width)]}
    return {"segmentation": _mask(shape.get("mask"), round(x1), round(y1), height, width)}


def _is_point(point: Any) -> bool:
    return (
        isinstance(point, list)
        and len(point) == 2
        and NUMBERS.issuperset(map(type, point))
        and is_finite(point)
    )


def _mask(data: Any, x: int, y: int, height: int, width: int) -> dict[str, Any]:
    """Decode a base64 PNG: the mask of the part of the image whose top-left pixel is (x, y)."""
    try:
        raw = base64.b64decode(data, validate=True)
    except (TypeError, ValueError):  # includes binascii.Error
        raw = b""
    rows, columns = headers.declared_size(raw) or (0, 0)
    if x < 0 or y < 0 or y + rows > height or x + columns > width:
        raise ValueError(
            f"its mask of {columns} x {rows} at {x}, {y} extends beyond the image of "
            f"{width} x {height}; correct or remove it"
        )
    try:
        crop = decode(raw, 1)[..., 0] if raw.startswith(headers.PNG) else None
    except ValueError:
        crop = None
    if crop is None or not crop.any():
        raise ValueError("its mask is empty or not a PNG in base64; correct or remove it")
    return encode(crop > 0, y, x, height, width)


def _unite(parts: list[dict[str, Any]], height: int, width: int) -> dict[str, Any]:
    """Combine the parts of a group: as polygons if all are polygons, else as run lengths."""
    if all(isinstance(part.get("segmentation"), list) for part in parts):
        return {"segmentation": [polygon for part in parts for polygon in part["segmentation"]]}
    if not height or not width:
        raise ValueError("its group requires imageHeight and imageWidth of the file; add them")
    runs = []
    for part in parts:
        shape = part.get("segmentation")
        if isinstance(shape, list) and any(len(polygon) < 6 for polygon in shape):
            raise ValueError("a polygon of its group has fewer than 3 points; correct or remove it")
        if wrong := shape_fault(part, width, height)[0]:  # before it is rasterised
            raise ValueError(f"a part of its group: {wrong}")
        if shape is None:
            x, y, w, h = part["bbox"]
            shape = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        if isinstance(shape, list):
            runs += coco_mask.frPyObjects(shape, height, width)
        else:
            runs.append({**shape, "counts": shape["counts"].encode()})
    united = coco_mask.merge(runs)
    return {"segmentation": {"size": [height, width], "counts": united["counts"].decode()}}


def open_labelme(folder: Path, block: Block, labels: Labels) -> Source:
    annotations = find_subfolder(folder, block["annotations"], ())
    images = find_subfolder(folder, block["images"], ())
    beside = folder.parent / "images"  # of labels/, which `labelme --output labels images` writes
    if not block["images"] and beside.is_dir() and not list_images(images):
        images = beside
    lists = read_labelme(annotations, images)
    return coco_source(lists, images, block, labels)


FORMAT = Format(
    open_labelme,
    {"annotations": "", "images": "", "categories": ()},
    ("labelme",),
    "https://github.com/wkentaro/labelme, an annotation tool",
)
