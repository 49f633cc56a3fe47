"""Read files of VGG Image Annotator: JSON and CSV exports and projects of versions 1, 2 and 3.

Source: https://www.robots.ox.ac.uk/~vgg/software/via/ and `_via_metadata.js` of version 3.
"""

import csv
import io
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mtl_jax.data.readers.annotation_tools.coco import coco_source
from mtl_jax.data.readers.annotation_tools.coco_shapes import NUMBERS, is_finite
from mtl_jax.data.readers.annotation_tools.outlines import ellipse
from mtl_jax.data.readers.coco_lists import CocoLists, Collector, parse_json, single_class, size_of
from mtl_jax.data.readers.csv_rows import MAX_CELL
from mtl_jax.data.readers.format import Block, Format, Labels, find_annotations, find_images
from mtl_jax.data.readers.image_files import Named
from mtl_jax.data.records import Source
from mtl_jax.errors import AnnotationErrors, UserError
from mtl_jax.io.regular import read_regular

_SHAPES = {2: "rect", 3: "circle", 4: "ellipse", 6: "polyline", 7: "polygon", 8: "extreme_rect"}
_NUMBERS = {  # version 2's names of the numbers that version 3 lists for a shape
    "rect": ("x", "y", "width", "height"),
    "circle": ("cx", "cy", "r"),
    "ellipse": ("cx", "cy", "rx", "ry"),
}
_WITH_OPTIONS = (2, 3, 4)  # version 3's attribute types checkbox, radio and select
_IMAGE = 2  # version 3's file type of an image
_LONGEST_PATH = 4096  # of Linux


class Region(NamedTuple):
    record: str  # its name in faults
    shape: Any  # version 2's `shape_attributes`
    attributes: Any  # version 2's `region_attributes`


class Annotated(NamedTuple):
    record: str
    name: Any  # the file name of the image
    regions: list[Region]


def read_via(
    path: Path, images: Path, class_attribute: str = "", categories: Sequence[str] = ()
) -> CocoLists:
    """Read a file of any version. The class of a region is its attribute `class_attribute`; without
    one, all regions have the one class that `categories` names.

    Polygons and polylines become masks, and rectangles become boxes without a mask. Circles and
    ellipses become masks that are clipped to their image in `images`. Images without regions are
    negatives.
    """
    only = "" if class_attribute else single_class(categories, f"{path}: no class_attribute is set")
    collector = Collector(path)
    every: list[Annotated] = []
    for number, annotated in enumerate(_read(path)):
        name = annotated.name
        if not _is_name(name):
            wrong = f"its file must be an image below the folder, got {reprlib.repr(name)}"
            collector.add_fault(annotated.record or f"image {number}", wrong)
        else:
            every.append(annotated)
    found = collector.find_images(images, [Named(annotated.name) for annotated in every])
    for file, annotated in zip(found, every, strict=True):
        name = file.path or annotated.name  # the check of images reports a missing one
        size = size_of(images / name) if file.path else (0, 0)
        if not collector.add_image(name, *size):
            continue
        for region in annotated.regions:
            kind = only
            try:
                if not isinstance(region.attributes, Mapping):
                    raise ValueError(
                        "its region_attributes must be an object; correct or remove it"
                    )
                labels = {k: _value(v) for k, v in region.attributes.items()}
                kind = only or _class(labels.pop(class_attribute, None), class_attribute)
                shape = _as_coco(region.shape, *size)
            except ValueError as error:
                collector.drop_instance(name, region.record, kind, str(error))
                continue
            collector.add_instance(name, region.record, kind, shape, labels)
    return collector.finish([only] if only else [])


def _read(path: Path) -> list[Annotated]:
    try:
        data = read_regular(path)
        if path.suffix.lower() == ".csv":
            return _csv(data)
        found = parse_json(data)
        if not isinstance(found, dict):
            raise ValueError(
                f"must be an object, got a {type(found).__name__}; export the annotations again"
            )
        if "project" in found and "metadata" in found:
            return _version_3(found)
        images = found.get("_via_img_metadata", found)
        if not isinstance(images, dict):
            raise ValueError("_via_img_metadata must be an object; save the project again")
        return [_image(key, value) for key, value in images.items()]
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise AnnotationErrors([f"{path}: {error}"]) from None


def _image(key: str, value: Any) -> Annotated:
    if not isinstance(value, Mapping):
        raise ValueError(f"image {key!r} must be an object; expected a file of VIA")
    name, regions = value.get("filename"), value.get("regions", {})
    if not _is_name(name):
        return Annotated(key, name, [])
    if isinstance(regions, Mapping):  # version 1
        regions = list(regions.values())
    if not isinstance(regions, list):
        raise ValueError(f"regions of {name!r} must be a list; export the annotations again")
    return Annotated(key, name, [_region(f"{name} regions[{i}]", r) for i, r in enumerate(regions)])


def _is_name(name: Any) -> bool:
    """Return whether a file can have this name, which is repeated in the names of its regions."""
    return isinstance(name, str) and 0 < len(name) <= _LONGEST_PATH and "://" not in name


def _region(record: str, region: Any) -> Region:
    if not isinstance(region, Mapping):
        return Region(record, None, {})
    return Region(record, region.get("shape_attributes"), region.get("region_attributes") or {})


def _version_3(found: Mapping[str, Any]) -> list[Annotated]:
    tables = []
    for name in ("file", "view", "metadata", "attribute"):
        table = found.get(name, {})
        if not isinstance(table, dict) or not all(isinstance(v, dict) for v in table.values()):
            raise ValueError(
                f"{name!r} must be an object of objects; save the project in VIA again"
            )
        tables.append(table)
    files, views, metadata, attributes = tables
    result: dict[str, Annotated] = {}
    for number, file in files.items():
        name = file.get("fname") if file.get("type", _IMAGE) == _IMAGE else "a video or sound://"
        result[number] = Annotated(f"file {number}", name, [])
    for number, entry in metadata.items():
        if not entry.get("xy"):
            continue  # metadata of the whole image
        shown = views.get(str(entry.get("vid")), {}).get("fid_list")
        file = result.get(str(shown[0])) if isinstance(shown, list) and len(shown) == 1 else None
        if file is None:
            raise ValueError(f"metadata {number} refers to no file; save the project in VIA again")
        labels = entry.get("av", {})
        named = _named(labels, attributes) if isinstance(labels, Mapping) else labels
        if _is_name(file.name):
            record = f"{file.name} metadata {number}"
            file.regions.append(Region(record, _shape_3(entry["xy"]), named))
    return list(result.values())


def _named(labels: Mapping[str, Any], attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return version 3's labels by the names of attributes and options."""
    result = {}
    for number, value in labels.items():
        attribute = attributes.get(number, {})
        options = attribute.get("options")
        if attribute.get("type") in _WITH_OPTIONS and isinstance(options, Mapping):
            chosen = [options.get(key, key) for key in str(value).split(",") if key]
            value = chosen[0] if len(chosen) == 1 else {str(name): True for name in chosen}
        result[str(attribute.get("aname", number))] = value
    return result


def _shape_3(xy: Any) -> Any:
    """Convert version 3's list of a shape to version 2's object."""
    if not isinstance(xy, list) or not xy:
        return xy
    known = _SHAPES.get(xy[0]) if isinstance(xy[0], int) else None
    name, numbers = known or f"shape {reprlib.repr(xy[0])}", xy[1:]
    if name in _NUMBERS:
        return {"name": name, **dict(zip(_NUMBERS[name], numbers, strict=False))}
    return {"name": name, "all_points_x": numbers[::2], "all_points_y": numbers[1::2]}


def _csv(data: bytes) -> list[Annotated]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8; save the file as UTF-8") from None
    if "# CSV_HEADER" in text:
        return _csv_3(text)
    found: dict[str, Annotated] = {}
    for line, row in _rows(text):
        name = row.get("filename") or row.get("#filename")
        required = ("region_shape_attributes", "region_attributes")
        if name is None or not all(isinstance(row.get(key), str) for key in required):
            raise ValueError(
                f"line {line} requires filename, {' and '.join(required)}; export the table again"
            )
        image = found.setdefault(name, Annotated(f"line {line}", name, []))
        shape, labels = (_cell(row[key], line) for key in required)
        if shape != {}:  # an image without regions also has one line
            image.regions.append(Region(f"line {line}", shape, labels))
    return list(found.values())


def _csv_3(text: str) -> list[Annotated]:
    attributes, header = {}, ""
    lines = text.splitlines()
    for line in lines:
        key, _, value = line.removeprefix("#").partition("=")
        if line.startswith("#") and key.strip() in ("ATTRIBUTE", "ATTRIBUTES"):
            attributes = _cell(value, 1)
        if line.startswith("#") and key.strip() == "CSV_HEADER":
            header = value.strip()
    if not isinstance(attributes, dict):
        raise ValueError("its ATTRIBUTE line must be an object; export the table again")
    attributes = {k: v if isinstance(v, dict) else {"aname": v} for k, v in attributes.items()}
    # Comments become empty lines, so that the line numbers in messages are those of the file.
    body = "\n".join("" if line.startswith("#") else line for line in lines)
    found: dict[str, Annotated] = {}
    for line, row in _rows(f"{header}\n{body}", first=0):
        cells = [row.get(key) for key in ("file_list", "spatial_coordinates", "metadata")]
        if not all(isinstance(cell, str) for cell in cells):
            raise ValueError(f"line {line} has a missing field; export the table again")
        names, xy, labels = (_cell(str(cell), line) for cell in cells)
        if not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str):
            raise ValueError(f"line {line} must name one image, got {reprlib.repr(names)}")
        image = found.setdefault(names[0], Annotated(f"line {line}", names[0], []))
        if xy:
            named = _named(labels, attributes) if isinstance(labels, Mapping) else labels
            image.regions.append(Region(f"line {line}", _shape_3(xy), named))
    return list(found.values())


def _rows(text: str, first: int = 1) -> Iterator[tuple[int, dict[str, Any]]]:
    csv.field_size_limit(MAX_CELL)
    reader = csv.DictReader(io.StringIO(text))
    try:
        for row in reader:
            yield reader.line_num + first - 1, row
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}; export the table again") from None


def _cell(text: str, line: int) -> Any:
    try:
        return parse_json(text.encode())
    except ValueError:
        raise ValueError(
            f"line {line}: {text[:80]!r} is not JSON; export the table again"
        ) from None


def _value(raw: Any) -> Any:
    """Return a label; for checkboxes, the options that are checked."""
    if not isinstance(raw, Mapping):
        return raw
    checked = [name for name, value in raw.items() if value]
    return checked[0] if len(checked) == 1 else (", ".join(checked) or None)


def _class(value: Any, attribute: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"requires the attribute {attribute!r}, which is its class; add it")
    return value.strip()


def _as_coco(shape: Any, height: int, width: int) -> dict[str, Any]:
    """Convert a shape to COCO's bbox or segmentation. Raises ValueError if it is invalid."""
    if not isinstance(shape, Mapping):
        raise ValueError("its shape_attributes must be an object; correct or remove it")
    name: Any = shape.get("name")
    if name in ("polygon", "polyline", "extreme_rect"):
        x, y = (shape.get(f"all_points_{axis}") for axis in "xy")
        if not isinstance(x, list) or not isinstance(y, list) or len(x) != len(y):
            raise ValueError(f"its {name} must have as many x as y; correct or remove it")
        points = [value for point in zip(x, y, strict=True) for value in point]
        if name != "extreme_rect":
            return {"segmentation": [points]}
        _check(points, name)
        left, top = min(x), min(y)
        return {"bbox": [left, top, max(x) - left, max(y) - top]}
    if not isinstance(name, str) or name not in _NUMBERS:
        raise ValueError(f"its shape is {reprlib.repr(name)}, which has no area; remove it")
    numbers: list[Any] = [shape.get(key) for key in _NUMBERS[name]]
    _check(numbers, name)
    if name == "rect":
        return {"bbox": numbers}
    x, y, *radii = numbers
    angle = shape.get("theta", 0)  # radians, clockwise in the image
    _check([angle], name)
    if min(radii) <= 0:
        raise ValueError(f"its {name} has a radius of {min(radii)}; correct or remove it")
    return {"segmentation": [ellipse(x, y, radii[0], radii[-1], angle, height, width)]}


def _check(numbers: Sequence[Any], name: str) -> None:
    if not numbers or not NUMBERS.issuperset(map(type, numbers)) or not is_finite(numbers):
        raise ValueError(
            f"its {name} must be finite numbers, got {reprlib.repr(numbers)}; correct or remove it"
        )


def open_via(folder: Path, block: Block, labels: Labels) -> Source:
    annotations = find_annotations(folder, block["annotations"], (".json", ".csv"))
    images = find_images(folder, annotations, block["images"])
    lists = read_via(annotations, images, block["class_attribute"], block["categories"])
    return coco_source(lists, images, block, labels)


FORMAT = Format(
    open_via,
    {"annotations": "", "images": "", "class_attribute": "", "categories": ()},
    ("via", "balloon"),
    "https://www.robots.ox.ac.uk/~vgg/software/via/, an annotation tool",
)
