"""COCO's eighty class names, from the category id to the output files."""

import csv
import json

import cv2
import pytest
from inference.fake_run import FakeRun, picture
from real_data import data_set

from mtl_jax.convert.coco_names import coco_categories, coco_used_categories
from mtl_jax.inference.files import OutputOptions, predict_folder
from mtl_jax.inference.predictor import Predictor


class CocoRun(FakeRun):
    """Detects the class whose number is the brightness of the rectangle minus 128."""

    def __init__(self, categories):
        super().__init__()
        self.categories = categories

    def class_of(self, image):
        return int(image.max()) - 128


# torchvision's models number classes as COCO does, with gaps; matterport's have no gaps.
@pytest.mark.parametrize(
    "categories", [coco_categories(), coco_used_categories()], ids=["gaps", "eighty"]
)
def test_each_name_is_written_with_its_id(tmp_path, categories):
    folder, output = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    names = {category.id: category.name for category in coco_used_categories()}
    assert len(names) == 80
    for number, category in enumerate(categories, 1):
        if category.id in names:
            image = picture(64, 128, (20, 10, 60, 50)) // 255 * (128 + number)
            cv2.imwrite(str(folder / f"{category.id:02d}.png"), image)
    options = OutputOptions(csv=True, crops=True)
    assert predict_folder(Predictor(CocoRun(categories)), [folder], output, options) == 0
    entries = json.loads((output / "predictions.json").read_text())
    with open(output / "predictions.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(entries) == len(rows) == 80
    for entry, row in zip(entries, rows, strict=True):
        category_id = int(entry["file_name"][:2])
        name = names[category_id]
        assert (entry["category_id"], entry["category"]) == (category_id, name)
        assert (row["category_id"], row["category"]) == (str(category_id), name)
        crops = list((output / "crops" / entry["file_name"]).iterdir())
        assert [crop.name for crop in crops] == [f"0_{name.replace(' ', '_')}.png"]


def test_the_names_are_those_of_torchvision():
    detection = pytest.importorskip("torchvision.models.detection")
    named = detection.MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    expected = {i: name for i, name in enumerate(named) if name not in ("__background__", "N/A")}
    assert {category.id: category.name for category in coco_used_categories()} == expected


def test_the_names_are_those_of_coco_s_annotations():
    text = (data_set("coco_mini") / "annotations/instances.json").read_text()
    expected = {c["id"]: c["name"] for c in json.loads(text)["categories"]}
    assert len(expected) >= 79
    found = {category.id: category.name for category in coco_used_categories()}
    assert {category_id: found[category_id] for category_id in expected} == expected
