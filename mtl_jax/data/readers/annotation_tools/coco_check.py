"""Check a COCO file, and report all its faults before training.

Each annotation is checked once in plain Python, which takes seconds for the 860,000 of COCO train.
Images are looked up in a listing of their folder and not opened.
"""

import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mtl_jax.data.readers.annotation_tools.coco_shapes import NUMBERS, is_finite, shape_fault
from mtl_jax.data.readers.coco_lists import CocoLists, fault_line, parse_json
from mtl_jax.data.readers.image_files import ImageFiles, Named, find_folder
from mtl_jax.data.readers.labels import LabelReader
from mtl_jax.data.records import Box, Category
from mtl_jax.errors import AnnotationErrors, UserError, shorten
from mtl_jax.images.decode import image_size
from mtl_jax.images.limits import check_pixels
from mtl_jax.io.regular import read_regular

_MAX_SIDE = 1_000_000
_URL_FAULT = "file_name is a URL; run `python -m mtl_jax.data download` on this file"


class CheckedAnnotation(NamedTuple):
    raw: dict[str, Any]
    box: Box  # x1, y1, x2, y2, within the image


class Dropped(NamedTuple):
    """A faulty annotation. Its box is an ignored region, if it is known."""

    category: int  # its id, or 0
    box: Box | None


class Checked(NamedTuple):
    """The valid records of a COCO file, and the faults of the others."""

    categories: list[dict[str, Any]]  # by id
    images: list[dict[str, Any]]  # in the file's order, with width and height
    annotations: dict[int | str, list[CheckedAnnotation]]  # by image id
    dropped: dict[int | str, list[Dropped]]  # the faulty annotations, by image id
    faults: tuple[str, ...]
    notes: tuple[str, ...]


def load(path: Path) -> dict[str, Any]:
    """Read a COCO file. Raises UserError if it cannot be read, AnnotationErrors if it is not JSON
    with COCO's three lists.
    """
    try:
        data = parse_json(read_regular(path))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise AnnotationErrors([fault_line(path, str(error))]) from None
    parts = ("images", "annotations", "categories")
    if not isinstance(data, dict):
        kind = type(data).__name__
        raise AnnotationErrors([f"{path}: must be an object of {', '.join(parts)}, got a {kind}"])
    wrong = [
        f"{path}: {part!r} is missing or not a list; COCO requires the lists {', '.join(parts)}"
        for part in parts
        if not isinstance(data.get(part), list)
    ]
    if wrong:
        raise AnnotationErrors(wrong)
    for image in data["images"]:
        for side in ("width", "height") if isinstance(image, dict) else ():
            value = image.get(side)
            if isinstance(value, float) and value.is_integer():  # 640.0, written from a table
                image[side] = int(value)
    return data


def load_lists(path: Path) -> CocoLists:
    """Read the three lists of a COCO file. Raises as `load` does."""
    data = load(path)
    return CocoLists(
        path, data["images"], data["annotations"], data["categories"], licence=_licence(data)
    )


def _licence(data: Mapping[str, Any]) -> str:
    """Return the licences that a COCO file states for its images, or all of them if it does not
    say which image has which; '' if it states none.
    """
    stated = data.get("licenses")
    names = {
        str(licence.get("id")): str(licence.get("name") or licence.get("url") or "")
        for licence in (stated if isinstance(stated, list) else ())
        if isinstance(licence, dict)
    }
    used = {str(i.get("license")) for i in data["images"] if isinstance(i, dict)} & names.keys()
    found = sorted({names[number] for number in used or names} - {""})
    return shorten("; ".join(found))


def check(lists: CocoLists, folder: Path, reader: LabelReader, on_error: str) -> Checked:
    """Check every record. Raises AnnotationErrors that list all faults; with `on_error="skip"`,
    only if a category is faulty or no image exists.
    """
    categories, broken = _check_categories(lists)
    images = _check_images(lists.path, lists.images, folder)
    faults = [*lists.faults, *images.faults]
    if images.is_lost:
        raise AnnotationErrors([*broken, *faults])
    annotations, dropped, more = _check_annotations(lists, categories, images, reader)
    faults += more
    if broken or (faults and on_error == "stop"):
        raise AnnotationErrors([*broken, *faults])
    ordered = sorted(categories.values(), key=lambda category: category["id"])
    notes = (*lists.notes, *images.notes)
    good = list(images.good.values())
    return Checked(ordered, good, annotations, dropped, tuple(faults), notes)


def as_categories(checked: Sequence[Mapping[str, Any]]) -> tuple[Category, ...]:
    return tuple(Category(category["id"], category["name"]) for category in checked)


def _check_categories(lists: CocoLists) -> tuple[dict[int, dict], list[str]]:
    path, found = lists.path, lists.categories
    categories: dict[int, dict] = {}
    names: set[str] = set()
    faults = []
    unused = _unused_twins(lists)
    for place, category in enumerate(found):
        if place in unused:
            continue
        wrong = ""
        if not isinstance(category, dict):
            wrong = "must be an object with an id and a name"
        elif type(category.get("id")) is not int:
            wrong = f"id must be a whole number, got {reprlib.repr(category.get('id'))}"
        elif abs(category["id"]) >= 2**63:  # metrics use 64-bit ids
            wrong = f"id must have at most 18 digits, got {reprlib.repr(category['id'])}"
        elif not isinstance(category.get("name"), str) or not category["name"]:
            wrong = f"name must be text, got {reprlib.repr(category.get('name'))}"
        elif any("\ud800" <= char <= "\udfff" for char in category["name"]):  # cannot be stored
            wrong = f"name {category['name']!r} contains a surrogate, half a character; correct it"
        elif category["id"] in categories:
            wrong = f"id {category['id']} occurs twice; ids must be unique"
        elif category["name"] in names:
            wrong = f"name {category['name']!r} occurs twice; names must be unique"
        if wrong:
            faults.append(fault_line(path, f"categories[{place}]: {wrong}"))
            continue
        categories[category["id"]] = category
        names.add(category["name"])
    if not found and not lists.faults:
        faults.append(f"{path}: has no categories; add one with an id and a name for each class")
    return categories, faults


def _unused_twins(lists: CocoLists) -> set[int]:
    """Return the places of categories without annotations that have the name of one with
    annotations: Roboflow's root category has the name of the project, which may be that of a class.
    """
    used = {
        annotation["category_id"]
        for annotation in lists.annotations
        if type(annotation) is dict and type(annotation.get("category_id")) is int
    }
    named = [
        (place, category["id"] in used, category["name"])
        for place, category in enumerate(lists.categories)
        if isinstance(category, dict)
        and type(category.get("id")) is int
        and isinstance(category.get("name"), str)
    ]
    names = {name for _, is_used, name in named if is_used}
    return {place for place, is_used, name in named if not is_used and name in names}


class _Images(NamedTuple):
    good: dict[int | str, dict]  # by id
    faults: list[str]
    notes: tuple[str, ...] = ()
    repeats: Mapping[int | str, int | str] = {}  # ids of records of one file -> its first id
    is_lost: bool = False  # no image file exists


def _check_images(path: Path, listed: list, folder: Path) -> _Images:
    """Check the images of a file; `file_name` becomes the path at which the image is found."""
    wrong: list[str] = []
    ids: set[int | str] = set()
    for image in listed:
        wrong.append(_image_fault(image, ids))
        ids |= set() if wrong[-1] else {image["id"]}
    valid = [place for place, fault in enumerate(wrong) if not fault]
    files = ImageFiles(folder)
    found, notes = files.find([Named(listed[place]["file_name"]) for place in valid])
    if len(valid) == len(listed) > 1 and all(file.is_missing for file in found):
        return _Images({}, [fault_line(path, _all_missing(path, listed, folder))], is_lost=True)
    owners: dict[str, int | str] = {}
    repeats: dict[int | str, int | str] = {}
    for place, file in zip(valid, found, strict=True):
        image = listed[place]
        owner = owners.setdefault(file.path, image["id"]) if file.path else image["id"]
        if file.fault:
            wrong[place] = _URL_FAULT if "://" in image["file_name"] else file.fault
        elif owner != image["id"]:
            wrong[place] = f"is the same file as image {owner}; merge the two records"
            repeats[image["id"]] = owner
        elif not files.bytes_of(file.path):
            wrong[place] = "the image file is empty; replace it or remove its record"
        else:
            image["file_name"] = file.path
            wrong[place] = _add_size(image, folder)
    faults = [
        fault_line(path, f"{_name_image(image, place)}: {fault}")
        for place, (image, fault) in enumerate(zip(listed, wrong, strict=True))
        if fault
    ]
    good = {image["id"]: image for image, fault in zip(listed, wrong, strict=True) if not fault}
    return _Images(good, faults, notes, repeats)


def _all_missing(path: Path, images: list[dict], folder: Path) -> str:
    first = images[0]["file_name"]
    mend = "set config.data.images to the folder that contains them"
    if "://" in first:
        mend = f"they are URLs; run `python -m mtl_jax.data download {path} --output DIR`"
    elif other := find_folder(first, path):
        mend = f"set config.data.images to {other}, which contains it"
    return f"none of its {len(images)} images is in {folder}; the first is {first}; {mend}"


def _name_image(image: Any, place: int) -> str:
    if not isinstance(image, dict) or not isinstance(image.get("id"), int | str):
        return f"images[{place}]"
    name = image.get("file_name")
    if isinstance(name, str) and name == image["id"]:
        return name
    return f"image {image['id']}" + (f" ({name})" if isinstance(name, str) else "")


def _image_fault(image: Any, ids: set) -> str:
    if not isinstance(image, dict):
        return "must be an object with an id, a file_name, a width and a height"
    number, name = image.get("id"), image.get("file_name")
    if type(number) not in (int, str):
        return f"id must be a whole number or text, got {reprlib.repr(number)}"
    if number in ids:
        return "its id occurs twice; ids must be unique"
    if not isinstance(name, str) or not name:
        return f"file_name must be the image's path below the folder, got {reprlib.repr(name)}"
    for side in ("width", "height"):
        value = image.get(side)
        if value is not None and not (type(value) is int and 0 < value <= _MAX_SIDE):
            return f"{side} must be the image's {side} in pixels, got {reprlib.repr(value)}"
    return ""


def _add_size(image: dict, folder: Path) -> str:
    """Read width and height from the image file if the record has none; return the fault or ''."""
    if image.get("width") and image.get("height"):
        try:
            check_pixels(image["height"], image["width"])
        except ValueError as error:
            return f"{error}, or correct its width and height"
        return ""
    try:
        image["height"], image["width"] = image_size(folder / image["file_name"])
    except (ValueError, OSError) as error:
        return f"has no width and height, and {error}; replace the image"
    return ""


def _check_annotations(
    lists: CocoLists,
    categories: Mapping[int, dict],
    images: _Images,
    reader: LabelReader,
) -> tuple[dict[int | str, list[CheckedAnnotation]], dict[int | str, list[Dropped]], list[str]]:
    numbers = {category["name"]: number for number, category in categories.items()}
    dropped: dict[int | str, list[Dropped]] = {}
    for image_id, name in lists.dropped:
        dropped.setdefault(image_id, []).append(Dropped(numbers.get(name, 0), None))
    listed = {
        image["id"]
        for image in lists.images
        if isinstance(image, dict) and type(image.get("id")) in (int, str)
    }
    # Annotations of a faulty category are left out, as its own fault is already reported.
    faulty = {repr(c["id"]) for c in lists.categories if isinstance(c, dict) and "id" in c}
    good: dict[int | str, list[CheckedAnnotation]] = {}
    seen: set[int | str] = set()
    unknown: dict[str, list[str]] = {}  # annotations by their category, if the file has none such
    faults = []
    for place, annotation in enumerate(lists.annotations):
        wrong = _reference_fault(annotation, listed, seen)
        box, labels = None, []
        if not wrong:
            seen.add(annotation["id"])
            category = annotation.get("category_id")
            owner = images.repeats.get(annotation["image_id"], annotation["image_id"])
            image = images.good.get(owner)
            is_known = type(category) is int and category in categories
            if not is_known and repr(category) not in faulty:
                where = _name_annotation(annotation, place, images.good)
                unknown.setdefault(reprlib.repr(category), []).append(where)
            if image is None:
                continue  # the fault of the image is already reported
            if not is_known or owner != annotation["image_id"]:
                _, box = shape_fault(annotation, image["width"], image["height"])
                _drop(dropped, {**annotation, "image_id": owner}, box)
                continue
            size = image["width"], image["height"]
            wrong, box = shape_fault(annotation, *size)
            if not wrong and reader.attributes:
                names = keypoint_names(categories[category])
                labels = reader.read(annotation, names, size)[1]
        for fault in (wrong, *labels):
            if fault:
                mend = "" if fault is wrong else "; correct or remove the label"
                where = _name_annotation(annotation, place, images.good)
                faults.append(fault_line(lists.path, f"{where}: {fault}{mend}"))
        if not wrong and box is not None:
            good.setdefault(annotation["image_id"], []).append(CheckedAnnotation(annotation, box))
        elif wrong and type(annotation) is dict:
            _drop(dropped, annotation, box)
    for category, (where, *others) in unknown.items():
        also = f", nor is that of {len(others)} other annotations" if others else ""
        wrong = f"category_id {category} is not a category of this file{also}; correct it"
        faults.append(fault_line(lists.path, f"{where}: {wrong}"))
    return good, dropped, faults


def _drop(
    dropped: dict[int | str, list["Dropped"]], annotation: Mapping[str, Any], box: Box | None
) -> None:
    image_id: Any = annotation.get("image_id")
    number = annotation.get("category_id")
    if type(image_id) in (int, str):
        category = number if type(number) is int else 0
        dropped.setdefault(image_id, []).append(Dropped(category, box))


def keypoint_names(category: Mapping[str, Any]) -> Sequence[str]:
    names = category.get("keypoints")
    return names if isinstance(names, list) and all(isinstance(n, str) for n in names) else ()


def _name_annotation(annotation: Any, place: int, images: Mapping) -> str:
    if not isinstance(annotation, dict) or not isinstance(annotation.get("id"), int | str):
        return f"annotations[{place}]"
    if isinstance(annotation["id"], str):
        return annotation["id"]  # its place in a file of another format
    number = annotation.get("image_id")
    image = images.get(number) if isinstance(number, int | str) else None
    name = f", {image['file_name']}" if image else ""
    return f"annotation {annotation['id']} (image {reprlib.repr(number)}{name})"


def _reference_fault(annotation: Any, listed: set, seen: set) -> str:
    if type(annotation) is not dict:
        return "must be an object; correct or remove it"
    number, image = annotation.get("id"), annotation.get("image_id")
    if type(number) not in (int, str):
        return f"id must be a whole number, got {reprlib.repr(number)}"
    if number in seen:
        return "its id occurs twice; ids must be unique"
    if type(image) not in (int, str) or image not in listed:
        return f"image_id {reprlib.repr(image)} is not an image of this file; correct or remove it"
    if annotation.get("iscrowd", 0) not in (0, 1):
        return f"iscrowd must be 0 or 1, got {reprlib.repr(annotation['iscrowd'])}"
    area = annotation.get("area")
    if area is not None and not (type(area) in NUMBERS and is_finite((area,)) and area >= 0):
        return f"area must be a number of square pixels, or absent, got {reprlib.repr(area)}"
    return ""
