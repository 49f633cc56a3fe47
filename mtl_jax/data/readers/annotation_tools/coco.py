"""Read COCO's JSON: boxes, polygons, RLEs and crowds, with attributes of the annotations.

Source: https://cocodataset.org/#format-data.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mtl_jax.attributes.base import Attribute
from mtl_jax.data.readers.annotation_tools import coco_check
from mtl_jax.data.readers.annotation_tools.coco_check import CheckedAnnotation
from mtl_jax.data.readers.annotation_tools.coco_shapes import segmentation_of
from mtl_jax.data.readers.coco_lists import CocoLists
from mtl_jax.data.readers.format import Block, Format, Labels, find_annotations, find_images
from mtl_jax.data.readers.image_paths import inside
from mtl_jax.data.readers.labels import LabelReader
from mtl_jax.data.readers.suggest_attributes import suggest_attributes
from mtl_jax.data.records import Instance, Record, Source
from mtl_jax.errors import UserError, suggest

CROWD = ("ignore", "objects")  # how crowds are read


class CocoSource(Source):
    """The images of a COCO file, or of COCO's lists made from another format, in order. Images
    without annotations are negatives.

    All faults of the file are raised at once as AnnotationErrors. With `on_error="skip"`, faulty
    records are left out and listed in `skipped`; if a label is faulty, it alone is left out. Labels
    that no attribute reads are listed in `undeclared`, as lines of a config.

    Classes are the file's categories by id, or those in `categories`; instances of other categories
    are left out. `attributes`, `keys` and `preset` are passed to `LabelReader`. Images with the
    same value of their key `group_key`, by default the file name, stay in one split. With
    `crowd="objects"`, crowds are objects, as CVAT exports masks drawn with a brush.
    """

    def __init__(
        self,
        annotations: str | Path | CocoLists,
        images: str | Path,
        attributes: Sequence[Attribute] = (),
        *,
        keys: Mapping[str, Any] | None = None,
        preset: str = "",
        categories: Sequence[str] = (),
        group_key: str = "",
        crowd: str = CROWD[0],
        on_error: str = "stop",
    ):
        if not isinstance(annotations, CocoLists):
            annotations = coco_check.load_lists(Path(annotations))
        self.path, self.licence = annotations.path, annotations.licence
        self.folder = self.image_folder = Path(images)
        self._reader = LabelReader(attributes, keys, preset)
        self.undeclared = tuple(
            f"{self.path}: attribute {line}"
            for line in suggest_attributes(annotations.annotations, self._reader.key_names)
        )
        checked = coco_check.check(annotations, self.folder, self._reader, on_error)
        self.skipped, self.notes = checked.faults, checked.notes
        chosen = _choose(self.path, checked.categories, categories)
        self.categories = coco_check.as_categories(chosen)
        self._known = {category["id"] for category in checked.categories}
        self._labels = {category["id"]: i for i, category in enumerate(chosen, 1)}
        self._points = {c["id"]: coco_check.keypoint_names(c) for c in chosen}
        self._images = checked.images
        self._annotations, self._dropped = checked.annotations, checked.dropped
        self._exhaustive = annotations.exhaustive
        self._group_key, self._has_crowds = group_key, crowd == CROWD[0]
        if group_key and self._images and not any(group_key in image for image in self._images):
            raise UserError(f"{self.path}: no image has the key {group_key!r} to group by")

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, position: int) -> Record:
        image = self._images[position]
        found = self._annotations.get(image["id"], ())
        dropped = [
            each
            for each in self._dropped.get(image["id"], ())
            if each.category in self._labels or each.category not in self._known
        ]
        return Record(
            image=inside(self.folder, image["file_name"]),
            width=image["width"],
            height=image["height"],
            image_id=image["id"],
            file_name=image["file_name"],
            instances=tuple(
                self._instance(annotation, (image["width"], image["height"]))
                for annotation in found
                if annotation.raw["category_id"] in self._labels
            ),
            exhaustive=self._is_exhaustive(image["id"]) and all(each.box for each in dropped),
            dropped=tuple(self._labels.get(each.category, 0) for each in dropped),
            ignored=tuple(each.box for each in dropped if each.box),
        )

    def group(self, position: int) -> str:
        """Return the image's value of `group_key`, or its file name."""
        image = self._images[position]
        return str(image.get(self._group_key, image["file_name"]))

    def _is_exhaustive(self, number: int | str) -> bool:
        given = self._exhaustive
        return given if isinstance(given, bool) else number in given

    def key(self, position: int) -> int | str:
        """Return the image's id."""
        return self._images[position]["id"]

    def name(self, position: int) -> str:
        """Return the image's file name."""
        return self._images[position]["file_name"]

    def _instance(self, annotation: CheckedAnnotation, size: tuple[int, int]) -> Instance:
        raw = annotation.raw
        number = raw["id"]
        return Instance(
            box=annotation.box,
            label=self._labels[raw["category_id"]],
            segmentation=segmentation_of(raw),
            crowd=self._has_crowds and bool(raw.get("iscrowd", 0)),
            area=raw.get("area"),
            id=number if isinstance(number, int) else 0,
            attributes=self._reader.read(raw, self._points[raw["category_id"]], size)[0],
        )


def _choose(path: Path, found: Sequence[dict], names: Sequence[str]) -> list[dict]:
    known = [category["name"] for category in found]
    for name in names:
        if name not in known:
            hint = suggest(name, known) or f"; expected one of {', '.join(known[:10])}"
            raise UserError(f"{path}: has no category {name!r}{hint}")
    return [category for category in found if not names or category["name"] in names]


def coco_source(
    annotations: Path | CocoLists, images: Path, block: Block, labels: Labels, group_key: str = ""
) -> CocoSource:
    return CocoSource(
        annotations,
        images,
        labels.attributes,
        keys=labels.keys,
        preset=labels.preset,
        categories=block.get("categories", ()),
        group_key=group_key,
        crowd=block.get("crowd", CROWD[0]),
        on_error=labels.on_error,
    )


def coco_opener(read: Callable[[Path], CocoLists]) -> Callable[[Path, Block, Labels], Source]:
    """Return the function that opens a format whose folder `read` converts, with groups of images
    that stay in one split.
    """

    def open_source(folder: Path, block: Block, labels: Labels) -> Source:
        return coco_source(read(folder), folder, block, labels, "group")

    return open_source


def open_coco(folder: Path, block: Block, labels: Labels) -> Source:
    annotations = find_annotations(folder, block["annotations"])
    images = find_images(folder, annotations, block["images"])
    return coco_source(annotations, images, block, labels, block["group_key"])


FORMAT = Format(
    open_coco,
    {"annotations": "", "images": "", "categories": (), "group_key": "", "crowd": CROWD[0]},
    ("coco", "coco_mini"),
    "https://cocodataset.org/#download (CC BY 4.0, each image under its own terms)",
    choices={"crowd": CROWD},
)
