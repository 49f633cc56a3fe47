"""The output files of predictions, read back."""

import csv
import json

import cv2
import numpy as np
import pytest
from visualize.drawing.test_draw import noise, result_of

from mtl_jax.attributes.declarations import from_config
from mtl_jax.inference.output import Predictions, write_crops

ATTRIBUTES = from_config(
    {
        "gender": {"kind": "categorical", "classes": ("male", "female, or so")},
        "smile": {"kind": "ordinal", "classes": ("none", "some", "wide")},
        "age": {"kind": "continuous", "range": (0, 116)},
        "head": {"kind": "pose", "angles": ("yaw", "pitch")},
        "face": {"kind": "landmarks", "points": ("left eye", "chin")},
    }
)
PREDICTED = {
    "gender": [0.25, 0.75],
    "smile": [1.5],
    "age": [33.25],
    "head": [-20.5, 10.0],
    "face": [1, 2, 0.5, 3, 4, 1],
}
COLUMNS = {
    "gender": "female, or so",
    "gender/male": 0.25,
    "gender/female, or so": 0.75,
    "smile": 1.5,
    "smile/label": "some",
    "age": 33.25,
    "head/yaw": -20.5,
    "head/pitch": 10.0,
    "face/left eye/x": 1.0,
    "face/left eye/y": 2.0,
    "face/left eye/visibility": 0.5,
    "face/chin/x": 3.0,
    "face/chin/y": 4.0,
    "face/chin/visibility": 1.0,
}


def entry(**more):
    described = {a.name: a.describe(np.array(PREDICTED[a.name])) for a in ATTRIBUTES}
    common = {"image_id": 3, "file_name": 'a "b", c\nd.png', "category_id": 17, "category": "cat"}
    return common | {"bbox": [1.0, 2.0, 3.0, 4.5], "score": 0.5, "attributes": described} | more


def test_every_attribute_has_its_own_columns(tmp_path):
    with Predictions(tmp_path, ATTRIBUTES, with_csv=True) as predictions:
        predictions.add([entry()])
        predictions.add([])
        predictions.add([entry(frame=7, time=0.28)])
    with open(tmp_path / "predictions.csv", newline="", encoding="utf-8") as file:
        first, second = csv.DictReader(file)
    assert {name: first[name] for name in COLUMNS} == {k: str(v) for k, v in COLUMNS.items()}
    own = ("image_id", "file_name", "frame", "time", "category_id", "category", "score")
    assert list(first) == [*own, "x", "y", "width", "height", *COLUMNS]
    assert first["file_name"] == 'a "b", c\nd.png'
    assert [first[name] for name in ("x", "y", "width", "height")] == ["1.0", "2.0", "3.0", "4.5"]
    assert (first["frame"], second["frame"], second["time"]) == ("", "7", "0.28")
    assert json.loads((tmp_path / "predictions.json").read_text()) == [
        entry(),
        entry(frame=7, time=0.28),
    ]


def test_a_spreadsheet_runs_no_cell(tmp_path):
    formula = '=HYPERLINK("http://x.org")'
    declared = from_config({formula: {"kind": "categorical", "classes": ("@a", "+b")}})
    described = {a.name: a.describe(np.array([1.0, 0.0])) for a in declared}
    found = entry(file_name=f"a;{formula}.png", category="\t-cat", bbox=[-1.0, 2.0, 3.0, 4.5])
    with Predictions(tmp_path, declared, with_csv=True) as predictions:
        predictions.add([found | {"attributes": described}])
    with open(tmp_path / "predictions.csv", newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row["file_name"] == f"a;'{formula}.png"
    assert row["category"].startswith("'")
    assert row["x"] == "-1.0"
    assert row[f"'{formula}"] == "'@a"
    assert not any(name.startswith("=") for name in row)


def test_a_run_without_detections_has_empty_files(tmp_path):
    with Predictions(tmp_path, ATTRIBUTES, with_csv=True) as predictions:
        predictions.add([])
    assert json.loads((tmp_path / "predictions.json").read_text()) == []
    with open(tmp_path / "predictions.csv", newline="", encoding="utf-8") as file:
        (header,) = csv.reader(file)
    assert header[-len(COLUMNS) :] == list(COLUMNS)


def test_predictions_are_written_completely_or_not_at_all(tmp_path):
    def write(*entries):
        with Predictions(tmp_path / "out", ()) as predictions:
            for one in entries:
                predictions.add([one])

    write()
    assert not (tmp_path / "out").exists()
    write({"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        write({"a": 2}, {"a": float("nan")})
    path = tmp_path / "out" / "predictions.json"
    assert path.read_text() == '[\n{"a": 1}\n]\n'
    assert list(path.parent.iterdir()) == [path]


def test_crops_are_clipped_and_empty_crops_are_skipped(tmp_path):
    image = noise(40, 60)
    boxes = [(10.4, 5.2, 20.1, 15), (50, 30, 60, 40), (8, 8, 8, 20), (30, 0, 40, 10)]
    names = ["traffic light", "a/b", "thin", "weak"]
    result = result_of(boxes, 40, 60, names, scores=[0.9, 0.8, 0.7, 0.2])
    write_crops(tmp_path, image, result)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0_traffic_light.png", "1_a_b.png"]
    for name, (x1, y1, x2, y2) in (
        ("0_traffic_light.png", (10, 5, 21, 15)),
        ("1_a_b.png", (50, 30, 60, 40)),
    ):
        crop = cv2.imread(str(tmp_path / name))[..., ::-1]
        np.testing.assert_array_equal(crop, image[y1:y2, x1:x2])
