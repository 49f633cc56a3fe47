"""Images that several sources contain are reported."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from annotated import HEIGHT, WIDTH
from mistakes import check_faults, check_names

from mtl_jax.config.options.data import SourceOptions
from mtl_jax.data.datasets.sources import open_sources


def write_coco(folder: Path, kind: str, value: int = 90, count: int = 6, x: int = 1) -> str:
    (folder / "images").mkdir(parents=True)
    for i in range(count):
        image = np.full((HEIGHT, WIDTH, 3), value + i, np.uint8)
        cv2.imwrite(str(folder / f"images/p{i}.png"), image)
    side = {"width": WIDTH, "height": HEIGHT}
    images = [{"id": i, "file_name": f"p{i}.png", **side} for i in range(count)]
    boxes = [{"id": i, "image_id": i, "category_id": 1, "bbox": [x, 2, 9, 9]} for i in range(count)]
    data = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": kind}]}
    (folder / "annotations.json").write_text(json.dumps(data))
    return str(folder)


def notes(*paths: str, splits=("", ""), exhaustive=None, renamed=None) -> tuple[str, ...]:
    own = ({}, {"rename": renamed or {}})
    blocks = tuple(
        {"format": "coco", "path": path, "name": name, "split": split, "exhaustive": exhaustive}
        | more
        for path, name, split, more in zip(paths, "ab", splits, own, strict=True)
    )
    return open_sources(SourceOptions(sources=blocks), ())["train"].notes


def test_objects_of_one_source_are_background_in_the_other(tmp_path):
    a, b = write_coco(tmp_path / "a", "cup"), write_coco(tmp_path / "b", "cup", x=5)
    check_faults(notes(a, b), ("a", "b", 6, "p0.png", "background", "exhaustive"))


def test_a_class_that_a_source_does_not_label_is_not_background_there(tmp_path):
    a, b = write_coco(tmp_path / "a", "cup"), write_coco(tmp_path / "b", "fork")
    shared, *others = notes(a, b)
    check_names(shared, "a", "b", 6, "p0.png")
    assert "background" not in shared
    check_faults(others, ("a", "fork", "exhaustive=True"), ("b", "cup", "exhaustive=True"))
    assert notes(a, b, exhaustive=True)[1:] == ()


def test_renamed_classes_are_compared_by_their_new_names(tmp_path):
    a, b = write_coco(tmp_path / "a", "cup"), write_coco(tmp_path / "b", "mug")
    (found,) = notes(a, b, renamed={"mug": "cup"})
    assert "background" not in found


@pytest.mark.parametrize("copied", [False, True])
def test_the_same_image_in_two_splits_is_reported(tmp_path, copied):
    a = write_coco(tmp_path / "a", "cup")
    b = str(shutil.copytree(a, tmp_path / "b")) if copied else a
    found = notes(a, b, splits=("train", "val"))
    check_faults(found, ("a", "b", 6, "p0.png", "train", "val"))
    assert "background" not in found[0]


def test_other_images_of_the_same_names_are_not_reported(tmp_path):
    assert notes(write_coco(tmp_path / "a", "cup"), write_coco(tmp_path / "b", "cup", 120)) == ()
