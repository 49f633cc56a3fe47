import json

import cv2
import numpy as np
import pytest
from inference.fake_run import FakeRun, picture
from pycocotools import mask as coco_mask

from mtl_jax.errors import UserError
from mtl_jax.inference.files import collect, predict_folder, write_predictions
from mtl_jax.inference.predictor import Predictor

# pycocotools 2.0.11 decodes by a protocol that NumPy 2 has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def write(path, height=64, width=128, box=(20, 10, 60, 50)):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture(height, width, box))


def names(found):
    return [file.name for file in found]


def test_folders_are_walked_in_sorted_order(tmp_path):
    for name in ("b.png", "a.jpg", "a.png", "deep/er/c.JPG", "deep/d.bmp"):
        write(tmp_path / name)
    write(tmp_path / ".hidden" / "e.png")
    (tmp_path / ".DS_Store").write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("nothing")
    (tmp_path / "a.png").rename(tmp_path / "no suffix")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    found = collect([tmp_path])
    assert names(found.pictures) == [
        "a.jpg",
        "b.png",
        "broken.png",
        "deep/d.bmp",
        "deep/er/c.JPG",
        "no suffix",
    ]
    assert names(found.others) == ["notes.txt"]


def test_a_file_goes_by_its_own_name_and_equal_names_by_their_folders(tmp_path):
    write(tmp_path / "x" / "a.png")
    write(tmp_path / "y" / "a.png")
    assert names(collect([tmp_path / "x" / "a.png"]).pictures) == ["a.png"]
    assert names(collect([tmp_path / "x", tmp_path / "x" / "a.png"]).pictures) == ["a.png"]
    both = collect([tmp_path / "x", tmp_path / "y" / "a.png"])
    assert names(both.pictures) == ["x/a.png", "y/a.png"]


def test_what_is_not_there_is_a_mistake(tmp_path):
    with pytest.raises(UserError, match="missing: no such picture"):
        collect([tmp_path / "missing"])


def test_all_good(tmp_path, capsys):
    write(tmp_path / "in" / "a.jpg")
    write(tmp_path / "in" / "a.png", 300, 200, (50, 100, 150, 250))
    write(tmp_path / "in" / "deep" / "b.png", 10, 300, (0, 0, 0, 0))  # black
    output = tmp_path / "out"
    assert predict_folder(Predictor(FakeRun()), [tmp_path / "in"], output) == 0
    entries = json.loads((output / "predictions.json").read_text())
    assert [(e["image_id"], e["file_name"]) for e in entries] == [(0, "a.jpg"), (1, "a.png")]
    np.testing.assert_allclose(entries[1]["bbox"], [50, 100, 100, 150], atol=5)
    assert entries[1]["category"] == "light"
    assert entries[1]["category_id"] == 11
    assert coco_mask.decode(entries[1]["segmentation"]).shape == (300, 200)
    for name, shape in (
        ("a.jpg.png", (64, 128, 3)),
        ("a.png.png", (300, 200, 3)),
        ("deep/b.png.png", (10, 300, 3)),
    ):
        assert cv2.imread(str(output / "overlays" / name)).shape == shape
    said = capsys.readouterr()
    assert "3 pictures, 2 detections" in said.out
    assert said.err == ""
    assert sorted(p.name for p in output.iterdir()) == ["overlays", "predictions.json"]


def test_the_overlay_keeps_the_picture_s_colours(tmp_path):
    image = np.full((40, 60, 3), (200, 30, 10), np.uint8)  # BGR
    cv2.imwrite(str(tmp_path / "a.png"), image)
    predict_folder(Predictor(FakeRun(), 0.99), [tmp_path / "a.png"], tmp_path / "out")
    overlay = cv2.imread(str(tmp_path / "out" / "overlays" / "a.png.png"))
    np.testing.assert_array_equal(overlay, image)


def test_some_skipped(tmp_path, capsys):
    folder = tmp_path / "in"
    write(folder / "a.png")
    write(folder / "c.png")
    (folder / "b.jpg").touch()
    (folder / "notes.txt").write_text("nothing")
    assert predict_folder(Predictor(FakeRun()), [folder], tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert "b.jpg: the file is empty" in said
    assert "notes.txt: not a picture" in said
    entries = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [(e["image_id"], e["file_name"]) for e in entries] == [(0, "a.png"), (2, "c.png")]


def test_many_files_of_a_kind_are_counted(tmp_path, capsys):
    write(tmp_path / "in" / "a.png")
    for i in range(30):
        (tmp_path / "in" / f"{i}.xml").write_text("<a/>")
    assert predict_folder(Predictor(FakeRun()), [tmp_path / "in"], tmp_path / "out") == 1
    assert capsys.readouterr().err.splitlines() == ["skipped 30 .xml files: not pictures"]


def test_links_in_a_circle_end_and_broken_ones_are_skipped(tmp_path, capsys):
    write(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "again").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    assert names(collect([tmp_path / "in"]).pictures) == ["a.png", "gone.jpg"]
    assert predict_folder(Predictor(FakeRun()), [tmp_path / "in"], tmp_path / "out") == 1
    assert "gone.jpg" in capsys.readouterr().err


def test_nothing_done(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    assert predict_folder(Predictor(FakeRun()), [tmp_path / "in"], tmp_path / "out") == 2
    assert "no picture" in capsys.readouterr().err
    (tmp_path / "in" / "a.png").write_bytes(b"no picture")
    assert predict_folder(Predictor(FakeRun()), [tmp_path / "in"], tmp_path / "out") == 2
    assert not (tmp_path / "out" / "predictions.json").exists()


def test_an_output_that_is_a_file_is_a_mistake(tmp_path):
    write(tmp_path / "a.png")
    with pytest.raises(UserError, match="must be a folder"):
        predict_folder(Predictor(FakeRun()), [tmp_path / "a.png"], tmp_path / "a.png")


def test_overlays_of_the_last_time_are_no_pictures(tmp_path):
    write(tmp_path / "a.png")
    for _ in range(2):
        assert predict_folder(Predictor(FakeRun()), [tmp_path], tmp_path / "out") == 0
        entries = json.loads((tmp_path / "out" / "predictions.json").read_text())
        assert [e["file_name"] for e in entries] == ["a.png"]


def test_predictions_are_there_whole_or_not_at_all(tmp_path):
    path = tmp_path / "predictions.json"
    write_predictions(path, [{"a": 1}])
    with pytest.raises(ValueError, match="JSON"):
        write_predictions(path, [{"a": float("nan")}])
    assert json.loads(path.read_text()) == [{"a": 1}]
    assert list(tmp_path.iterdir()) == [path]
    write_predictions(path, [])
    assert json.loads(path.read_text()) == []
