"""Split a COCO file into one file for each split."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtl_jax.data.datasets import splits
from mtl_jax.data.readers.annotation_tools import coco_check
from mtl_jax.errors import AnnotationErrors, UserError
from mtl_jax.io.atomic import write_json


def split_file(
    path: Path,
    output: Path,
    fractions: Sequence[float] = (0.7, 0.15, 0.15),
    seed: int = 0,
    group_key: str = "",
) -> dict[str, tuple[int, int]]:
    """Write OUTPUT/train.json, val.json and test.json; return each one's counts of images and
    annotations.

    Each image is in one file, with its annotations; other keys are copied to every file. Raises
    UserError if `path` would be overwritten, and AnnotationErrors if an image has no id or no
    group, or an annotation has no image.
    """
    data = coco_check.load(path)
    if path.resolve() in {(output / f"{name}.json").resolve() for name in splits.NAMES}:
        raise UserError(f"{path}: would be overwritten; choose another --output")
    check_ids(path, data, group_key)
    groups = [str(image[group_key or "file_name"]) for image in data["images"]]
    counts = {}
    for name, positions in splits.split(groups, fractions, seed).items():
        images = [data["images"][position] for position in positions]
        ids = {image["id"] for image in images}
        annotations = [a for a in data["annotations"] if a["image_id"] in ids]
        write_json(
            output / f"{name}.json",
            {**data, "images": images, "annotations": annotations},
            readable=False,
        )
        counts[name] = len(images), len(annotations)
    return counts


def check_ids(path: Path, data: Mapping[str, list[Any]], group_key: str) -> None:
    """Raise AnnotationErrors that list the records which cannot be assigned to a split."""
    faults, seen = [], set()
    key = group_key or "file_name"
    for place, image in enumerate(data["images"]):
        number = image.get("id") if isinstance(image, dict) else None
        if type(number) not in (int, str):
            faults.append(f"{path}: images[{place}]: id must be a whole number or text")
            continue
        if number in seen:
            faults.append(f"{path}: image {number}: its id occurs twice; ids must be unique")
        if not isinstance(image.get(key), int | str):
            faults.append(f"{path}: image {number} requires the key {key!r} to group by; add it")
        seen.add(number)
    for place, annotation in enumerate(data["annotations"]):
        image = annotation.get("image_id") if isinstance(annotation, dict) else None
        if type(image) not in (int, str) or image not in seen:
            faults.append(
                f"{path}: annotations[{place}]: its image_id must be the id of an image in this "
                "file; correct it"
            )
    if faults:
        raise AnnotationErrors(faults)
