"""Read Pascal VOC's boxes: an XML file for each image.

Source: http://host.robots.ox.ac.uk/pascal/VOC/voc2012/devkit_doc.pdf, section 10. VOC counts pixels
from 1, and a box includes its last pixel. Boxes here count from 0 and end behind the last pixel.
"""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

from mtl_jax.data.readers.annotation_tools.coco import coco_source
from mtl_jax.data.readers.coco_lists import CocoLists, Collector, find_files, read_each
from mtl_jax.data.readers.format import Block, Format, Labels, find_subfolder
from mtl_jax.data.readers.image_files import Named
from mtl_jax.data.records import Source
from mtl_jax.errors import UserError
from mtl_jax.io.regular import read_regular

_OWN = ("name", "bndbox", "difficult", "part", "actions")  # of an object; the rest are attributes


def read_voc(folder: Path, images: Path, image_set: str = "") -> CocoLists:
    """Read `Annotations/*.xml` below `folder`, or all XML files below `folder` if it has no
    Annotations. The images are below `images`. With `image_set`, only those in
    `ImageSets/Main/<image_set>.txt` are read.

    A difficult object is neither an example nor a counter-example, as COCO's crowds are. Other
    fields of an object (pose, truncated, occluded) are attributes.
    """
    annotations = folder / "Annotations" if (folder / "Annotations").is_dir() else folder
    paths = find_files(annotations, ".xml")
    collector = Collector(annotations)
    if image_set:
        names = _read_set(folder / "ImageSets" / "Main" / f"{image_set}.txt")
        paths = [path for path in paths if path.stem in names]
        for name in sorted(names - {path.stem for path in paths}):
            collector.add_fault(f"{name}.xml", f"is listed in {image_set}.txt, but does not exist")
    files: dict[str, ET.Element] = {}
    named = []
    for path, root in read_each(_parse, paths):
        record = path.relative_to(annotations)
        if isinstance(root, ValueError):
            collector.add_fault(record.as_posix(), str(root))
            continue
        files[record.as_posix()] = root
        name = (root.findtext("filename") or "").strip() or f"{path.stem}.jpg"
        named.append(Named(name, record.parent.as_posix().removeprefix("."), path.stem))
    found = collector.find_images(images, named)
    for image, file, (record, root) in zip(named, found, files.items(), strict=True):
        name = file.path or image.name  # the check of images reports a missing one
        height, width = (_whole(root.findtext(f"size/{side}")) for side in ("height", "width"))
        if not collector.add_image(name, height, width):
            continue
        for place, element in enumerate(root.iterfind("object")):
            try:
                _add(collector, name, f"{record} object[{place}]", element)
            except ValueError as error:
                kind = (element.findtext("name") or "").strip()
                collector.drop_instance(name, f"{record} object[{place}]", kind, str(error))
    return collector.finish()


def _read_set(path: Path) -> set[str]:
    try:
        lines = read_regular(path).decode("utf-8-sig").splitlines()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start} is not UTF-8; save it as UTF-8") from None
    # Lists of one class have a second column, which is -1 if the class is not in the image.
    return {re.sub(r"\s+(-1|0|1)$", "", line.strip()) for line in lines if line.strip()}


def _parse(path: Path) -> ET.Element:
    try:
        root = ET.fromstring(read_regular(path))
    except (ET.ParseError, LookupError, ValueError) as error:  # an encoding that is not supported
        raise ValueError(f"truncated or not XML ({error}); save the file again") from None
    if root.tag != "annotation":
        raise ValueError(f"expected <annotation>, got <{root.tag}>; use a file of VOC")
    return root


def _whole(text: str | None) -> int:
    digits = (text or "").strip()
    return int(digits) if digits.isdecimal() and len(digits) < 10 else 0


def _add(collector: Collector, image: str, record: str, element: ET.Element) -> None:
    kind = (element.findtext("name") or "").strip()
    if not kind:
        raise ValueError("has no name, which is its class; add the name or remove the object")
    corners = []
    for side in ("xmin", "ymin", "xmax", "ymax"):
        text = element.findtext(f"bndbox/{side}")
        try:
            corners.append(float(text or ""))
        except ValueError:
            raise ValueError(f"{side} of its bndbox must be a number, got {text!r}") from None
    x1, y1, x2, y2 = corners
    box = [x1 - 1, y1 - 1, x2 - x1 + 1, y2 - y1 + 1]
    labels = {
        child.tag: child.text.strip()
        for child in element
        if child.tag not in _OWN and not len(child) and child.text and child.text.strip()
    }
    difficult = (element.findtext("difficult") or "0").strip() == "1"
    collector.add_instance(image, record, kind, {"bbox": box}, labels, difficult)


def open_voc(folder: Path, block: Block, labels: Labels) -> Source:
    images = find_subfolder(folder, block["images"], ("JPEGImages", "images"))
    return coco_source(read_voc(folder, images, block["image_set"]), images, block, labels)


FORMAT = Format(
    open_voc,
    {"images": "", "image_set": "", "categories": ()},
    ("voc", "VOC2012", "VOCdevkit/VOC2012", "VOC2007", "VOCdevkit/VOC2007"),
    "http://host.robots.ox.ac.uk/pascal/VOC/voc2012 (Flickr's terms of use)",
)
