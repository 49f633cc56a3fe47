import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from inference.fake_run import FakeRun, picture
from inference.videos import write_video
from mistakes import check_faults, check_names, refused
from pycocotools import mask as coco_mask

from mtl_jax.inference.collect import collect
from mtl_jax.inference.files import OutputOptions, predict_folder
from mtl_jax.inference.journal import Journal
from mtl_jax.inference.predictor import Predictor
from mtl_jax.types import Proposals
from mtl_jax.visualize.drawing.styles import STYLES
from mtl_jax.visualize.drawing.window import Window

# pycocotools 2.0.11 decodes by a protocol that NumPy 2 has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


class TwoClasses(FakeRun):
    """Detects the second class, dark, in images that are not nearly white."""

    def class_of(self, image):
        return 1 if image.max() > 200 else 2


def write(path, height=64, width=128, box=(20, 10, 60, 50)):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture(height, width, box))


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
    printed = capsys.readouterr()
    counted, drawn, _ = printed.out.splitlines()
    assert re.findall(r"\d+", counted.replace(str(tmp_path), "")) == ["3", "2"]
    check_names(counted, output / "predictions.json")
    check_names(drawn, output / "overlays")
    assert "--threshold" not in printed.out
    assert printed.err == ""
    assert sorted(p.name for p in output.iterdir()) == ["overlays", "predictions.json"]


def test_detections_that_are_not_drawn_are_reported(tmp_path, capsys):
    write(tmp_path / "a.png")
    assert predict_folder(Predictor(FakeRun(score=0.3)), [tmp_path], tmp_path / "out") == 0
    _, drawn, _ = capsys.readouterr().out.splitlines()
    check_names(drawn, tmp_path / "out/overlays", "--threshold")
    assert re.findall(r"\d[\d.]*", drawn.replace(str(tmp_path), "")) == ["0", "0.5"]


def test_the_overlay_keeps_the_colours_of_the_image(tmp_path):
    image = np.full((140, 160, 3), (200, 30, 10), np.uint8)  # BGR
    cv2.imwrite(str(tmp_path / "a.png"), image)
    predict_folder(Predictor(FakeRun(), 0.99), [tmp_path / "a.png"], tmp_path / "out")
    overlay = cv2.imread(str(tmp_path / "out" / "overlays" / "a.png.png"))
    np.testing.assert_array_equal(overlay, image)


def test_a_small_image_is_enlarged_except_in_styles_without_text(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), picture(48, 48, (0, 0, 48, 48)))
    for style, side in (("overlay", 288), ("splash", 48)):
        options = OutputOptions(style=style)
        predict_folder(Predictor(FakeRun()), [tmp_path / "a.png"], tmp_path / style, options)
        overlay = cv2.imread(str(tmp_path / style / "overlays/a.png.png"))
        assert overlay.shape == (side, side, 3)


def test_some_skipped(tmp_path, capsys):
    folder = tmp_path / "in"
    write(folder / "a.png")
    write(folder / "c.png")
    (folder / "b.jpg").touch()
    (folder / "notes.txt").write_text("nothing")
    assert predict_folder(Predictor(FakeRun()), [folder], tmp_path / "out") == 1
    printed = capsys.readouterr().err.splitlines()
    check_faults(printed, (folder / "notes.txt",), (folder / "b.jpg",))
    # The reasons differ, since b.jpg is empty.
    assert printed[0].partition("notes.txt")[2] != printed[1].partition("b.jpg")[2]
    entries = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [(e["image_id"], e["file_name"]) for e in entries] == [(0, "a.png"), (2, "c.png")]


def test_a_name_that_is_not_utf_8_is_skipped(tmp_path, capsys):
    write(tmp_path / "good.png")
    for name in (b"caf\xe9.png", b"caf\xe9.mp4", b"caf\xe9.txt"):
        path = os.fsencode(tmp_path) + b"/" + name
        with open(path, "wb") as file:
            file.write((tmp_path / "good.png").read_bytes())
    assert predict_folder(Predictor(FakeRun()), [tmp_path], tmp_path / "out") == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    check_names(
        "\n".join(lines), *(tmp_path / rf"caf\udce9.{kind}" for kind in ("png", "mp4", "txt"))
    )
    entries = json.loads((tmp_path / "out/predictions.json").read_text())
    assert [entry["file_name"] for entry in entries] == ["good.png"]


def test_stale_results_of_an_earlier_run_are_removed(tmp_path):
    folder, output = tmp_path / "in", tmp_path / "out"
    write(folder / "a.png")
    write_video(folder / "film.avi", frames=2)
    options = OutputOptions(crops=True, csv=True)
    predict_folder(Predictor(FakeRun()), [folder], output, options)
    old = output / "crops/a.png/7_other.png"
    old.write_bytes(b"")
    (output / "crops/film.avi/000009_0_light.png").write_bytes(b"")
    (output / "crops/a.png/mine.txt").write_text("kept")
    predict_folder(Predictor(FakeRun()), [folder], output)
    assert old.exists()
    assert not (output / "predictions.csv").exists()
    predict_folder(Predictor(FakeRun()), [folder], output, options)
    names = sorted(
        path.relative_to(output / "crops").as_posix() for path in output.glob("crops/*/*")
    )
    assert names == [
        "a.png/0_light.png",
        "a.png/mine.txt",
        "film.avi/000000_0_light.png",
        "film.avi/000001_0_light.png",
    ]


def test_many_files_of_one_suffix_are_counted(tmp_path, capsys):
    write(tmp_path / "in" / "a.png")
    for i in range(30):
        (tmp_path / "in" / f"{i}.xml").write_text("<a/>")
    assert predict_folder(Predictor(FakeRun()), [tmp_path / "in"], tmp_path / "out") == 1
    (line,) = capsys.readouterr().err.splitlines()
    check_names(line, 30, ".xml")


def test_circular_links_end_and_broken_links_are_skipped(tmp_path, capsys):
    write(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "again").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    assert [file.name for file in collect([tmp_path / "in"]).images] == ["a.png", "gone.jpg"]
    assert predict_folder(Predictor(FakeRun()), [tmp_path / "in"], tmp_path / "out") == 1
    check_names(capsys.readouterr().err, "gone.jpg")


def test_without_readable_inputs_nothing_is_written(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    assert predict_folder(Predictor(FakeRun()), [tmp_path / "in"], tmp_path / "out") == 2
    check_names(capsys.readouterr().err, tmp_path / "in")
    (tmp_path / "in" / "a.png").write_bytes(b"no picture")
    assert predict_folder(Predictor(FakeRun()), [tmp_path / "in"], tmp_path / "out") == 2
    assert not (tmp_path / "out" / "predictions.json").exists()


def test_an_output_that_is_a_file_is_refused(tmp_path):
    write(tmp_path / "a.png")
    with refused(tmp_path / "a.png"):
        predict_folder(Predictor(FakeRun()), [tmp_path / "a.png"], tmp_path / "a.png")


@pytest.mark.parametrize("below", ["out", "."])
def test_overlays_of_an_earlier_run_are_not_inputs(tmp_path, below):
    write(tmp_path / "a.png")
    for _ in range(2):
        assert predict_folder(Predictor(FakeRun()), [tmp_path], tmp_path / below) == 0
        entries = json.loads((tmp_path / below / "predictions.json").read_text())
        assert [e["file_name"] for e in entries] == ["a.png"]


def test_no_partial_image_is_left(tmp_path, monkeypatch):
    write(tmp_path / "a.png")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        predict_folder(Predictor(FakeRun()), [tmp_path / "a.png"], tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").rglob("*")] == ["overlays"]


@pytest.mark.parametrize("style", STYLES)
def test_overlays_have_the_given_style(tmp_path, style):
    write(tmp_path / "a.png")
    options = OutputOptions(style=style)
    predictor = Predictor(FakeRun())
    assert predict_folder(predictor, [tmp_path / "a.png"], tmp_path / "out", options) == 0
    written = cv2.imread(str(tmp_path / "out/overlays/a.png.png"))[..., ::-1]
    result = predictor(tmp_path / "a.png")
    np.testing.assert_array_equal(written, STYLES[style](result.image, result))


def test_only_the_given_classes_are_written(tmp_path):
    write(tmp_path / "light.png")
    dark = picture(64, 128, (20, 10, 60, 50)) // 255 * 150
    cv2.imwrite(str(tmp_path / "dark.png"), dark)
    for classes, expected in (
        (None, ["dark", "light"]),
        (["light"], ["light"]),
        (["dark"], ["dark"]),
        (["dark", "light"], ["dark", "light"]),
    ):
        predictor = Predictor(TwoClasses(), None, classes)
        assert (
            predict_folder(
                predictor, [tmp_path / "light.png", tmp_path / "dark.png"], tmp_path / "out"
            )
            == 0
        )
        entries = json.loads((tmp_path / "out/predictions.json").read_text())
        assert [(e["category"], e["file_name"]) for e in entries] == [
            (name, f"{name}.png") for name in expected
        ]


def test_crops_have_the_pixels_of_the_image(tmp_path):
    folder, output = tmp_path / "in", tmp_path / "out"
    write(folder / "deep" / "a.png")
    write(folder / "b.png", 10, 300, (0, 0, 0, 0))  # black: no detections
    write_video(folder / "film.avi", frames=2)
    predictor = Predictor(FakeRun())
    assert predict_folder(predictor, [folder], output, OutputOptions(crops=True)) == 0
    found = sorted(
        path.relative_to(output / "crops").as_posix()
        for path in output.glob("crops/**/*_light.png")
    )
    assert found == [
        "deep/a.png/0_light.png",
        "film.avi/000000_0_light.png",
        "film.avi/000001_0_light.png",
    ]
    crop = cv2.imread(str(output / "crops/deep/a.png/0_light.png"))
    assert crop.shape == (40, 40, 3)
    assert (crop == 255).all()
    # Detections that are not drawn are not cropped.
    assert (
        predict_folder(
            Predictor(FakeRun(score=0.3)), [folder], tmp_path / "b", OutputOptions(crops=True)
        )
        == 0
    )
    assert not (tmp_path / "b/crops").exists()


def test_the_table_matches_the_json(tmp_path):
    write(tmp_path / "in" / 'a, "b".png')
    write_video(tmp_path / "in" / "film.avi", frames=2)
    options = OutputOptions(csv=True)
    assert predict_folder(Predictor(FakeRun()), [tmp_path / "in"], tmp_path / "out", options) == 0
    with open(tmp_path / "out/predictions.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    entries = json.loads((tmp_path / "out/predictions.json").read_text())
    assert [row["file_name"] for row in rows] == ['a, "b".png', "film.avi", "film.avi"]
    assert [(row["frame"], row["time"]) for row in rows] == [("", ""), ("0", "0.0"), ("1", "0.08")]
    for row, entry in zip(rows, entries, strict=True):
        assert [float(row[name]) for name in ("x", "y", "width", "height")] == entry["bbox"]
        assert (int(row["category_id"]), row["category"]) == (11, "light")
        assert float(row["score"]) == entry["score"]
        point = entry["attributes"]["eye"]["points"][0]
        assert [float(row[f"eye/a/{part}"]) for part in ("x", "y", "visibility")] == point


def test_the_time_of_each_part_is_printed(tmp_path, capsys):
    write(tmp_path / "a.png")
    predictor = Predictor(FakeRun())
    assert predict_folder(predictor, [tmp_path / "a.png"], tmp_path / "out") == 0
    line = capsys.readouterr().out.splitlines()[-1]
    seconds = predictor.times.seconds
    spent = (f"{seconds[part]:.2f}" for part in ("decode", "first", "draw"))
    check_names(line, "decode", "infer", "draw", *spent)
    assert len(re.findall(r"\d+\.\d+", line)) == 5  # also the sum of infer, and the rate
    assert min(seconds["decode"], seconds["first"], seconds["draw"]) > 0
    assert seconds["infer"] == 0
    predictor(tmp_path / "a.png")  # a batch of one: another shape
    first = predictor.times.seconds["first"]
    predictor(tmp_path / "a.png")
    assert predictor.times.seconds["infer"] > 0
    assert predictor.times.seconds["first"] == first


class WithProposals(FakeRun):
    """A model that requires proposals, which are slow."""

    def propose(self, batch):
        time.sleep(0.05)
        boxes = np.zeros((len(batch.valid), 2, 4), np.float32)
        return batch._replace(proposals=Proposals(boxes, np.zeros(boxes.shape[:2], bool)))

    def predict(self, batch):
        assert batch.proposals is not None
        return super().predict(batch)


def test_the_time_of_an_image_is_split_into_proposals_and_network(tmp_path, capsys):
    for name in "abcdef":
        write(tmp_path / f"{name}.png")
    predictor = Predictor(WithProposals(batch_size=2))
    assert predict_folder(predictor, [tmp_path], tmp_path / "out") == 0
    line = capsys.readouterr().out.splitlines()[-1]
    check_names(line, "decode", "proposals", "network")
    *_, proposals, network = map(float, re.findall(r"\d+\.\d+", line))
    # Two of the three batches, each of two images; the first batch is measured separately.
    seconds = predictor.times.seconds
    assert seconds["propose"] >= 0.1
    assert proposals == pytest.approx(seconds["propose"] / 4, abs=1e-3)
    assert network == pytest.approx(seconds["infer"] / 4, abs=1e-3)
    assert seconds["first"] >= 0.05


def test_overlays_are_shown_in_a_window(tmp_path, monkeypatch):
    write(tmp_path / "a.png")
    write_video(tmp_path / "film.avi", frames=2)
    shown = []
    monkeypatch.setattr(Window, "show", lambda self, image, wait: shown.append((image, wait)))
    options = OutputOptions(style="panels", show=True)
    assert predict_folder(Predictor(FakeRun()), [tmp_path], tmp_path / "out", options) == 0
    assert [wait for _, wait in shown] == [True, False, False]
    assert all(image.shape == (64, 3 * 128, 3) for image, _ in shown)


def write_many(folder, count=30):
    """Write images of two sizes, every fifth without an object."""
    for i in range(count):
        size = (64, 128) if i % 3 else (100, 100)
        write(folder / f"{i:02d}.png", *size, (0, 0, 0, 0) if i % 5 == 0 else (5, 5, 20 + i, 40))


STOPS = [("SIGKILL", -signal.SIGKILL), ("SIGTERM", -signal.SIGTERM), ("SIGINT", 130), ("error", 1)]


@pytest.mark.parametrize(("how", "code"), STOPS)
def test_predictions_are_kept_and_resumed(how, code, tmp_path, capsys):
    folder, output, whole = (tmp_path / name for name in ("in", "out", "whole"))
    write_many(folder)
    write_video(folder / "z.avi", 6)
    predict_folder(Predictor(FakeRun()), [folder], whole)
    printed = capsys.readouterr().out.replace(str(whole), str(output)).splitlines()
    for batches, resumes in ((3, ""), (2, "resume")):  # batches of four images
        arguments = [folder, output, batches, how, resumes]
        script = Path(__file__).with_name("stopped_predict.py")
        paths = os.pathsep.join([str(script.parents[2]), str(script.parents[1])])
        done = subprocess.run(
            [sys.executable, script, *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == code, done
        lines = (output / "predictions.jsonl").read_text().splitlines()
        kept = [json.loads(line) for line in lines]
        assert len(kept) >= 8
        assert not (output / "predictions.json").exists()
    options = OutputOptions(resume=True)
    run = FakeRun()
    assert predict_folder(Predictor(run), [folder], output, options) == 0
    assert sum(batch.valid.sum() for batch in run.batches) <= 30 + 6 - 8
    assert capsys.readouterr().out.splitlines()[:2] == printed[:2]  # the numbers of both processes
    found = (output / "predictions.json").read_text()
    assert found == (whole / "predictions.json").read_text()
    assert sorted(p.name for p in output.iterdir()) == ["overlays", "predictions.json"]
    with refused(output, "--resume"):
        predict_folder(Predictor(FakeRun()), [folder], output, options)


def test_predictions_are_not_resumed_with_other_arguments(tmp_path):
    folder, output = tmp_path / "in", tmp_path / "out"
    write_many(folder, 12)

    class Breaks(FakeRun):
        def predict(self, batch):
            if len(self.batches) == 2:
                raise RuntimeError("out of memory")
            return super().predict(batch)

    with pytest.raises(RuntimeError, match="memory"):
        predict_folder(Predictor(Breaks(), name="a"), [folder], output)
    resume = OutputOptions(resume=True)
    with refused(output, "model", "--resume"):
        predict_folder(Predictor(FakeRun(), name="b"), [folder], output, resume)
    with refused(output, "style", "--resume"):
        options = OutputOptions(style="boxes", resume=True)
        predict_folder(Predictor(FakeRun(), name="a"), [folder], output, options)
    write(folder / "new.png")
    with refused(output, "files", "--resume"):
        predict_folder(Predictor(FakeRun(), name="a"), [folder], output, resume)
    (folder / "new.png").unlink()
    other = shutil.copytree(folder, tmp_path / "other")  # other images of the same names
    with refused(output, "files", "--resume"):
        predict_folder(Predictor(FakeRun(), name="a"), [other], output, resume)
    assert predict_folder(Predictor(FakeRun(), name="a"), [folder], output) == 0


def test_an_image_with_an_incomplete_line_is_predicted_again(tmp_path):
    folder, output = tmp_path / "in", tmp_path / "out"
    write_many(folder, 8)
    journal = Journal(output, {"model": "a"})
    with journal:
        journal.add([{"file_name": "00.png", "image_id": 0}])
        journal.finish("00.png", 0, 1, 1)
        journal.add([{"file_name": "01.png", "image_id": 1}])
        journal.finish("01.png", 1, 1, 1)
    for path in (journal.path, output / "predictions.progress.jsonl"):
        os.truncate(path, path.stat().st_size - 10)  # as a killed process may leave them
    again = Journal(output, {"model": "a"}, resume=True)
    assert list(again.done) == ["00.png"]
    with again:
        again.add([{"file_name": "01.png", "image_id": 1, "new": True}])
        again.finish("01.png", 1, 1, 1)
        again.write((), with_csv=False)
    found = json.loads((output / "predictions.json").read_text())
    assert [(entry["image_id"], "new" in entry) for entry in found] == [(0, False), (1, True)]


def test_a_damaged_journal_is_not_resumed(tmp_path):
    with Journal(tmp_path, {"model": "a"}) as journal:
        journal.add([{"file_name": "00.png", "image_id": 0}])
        journal.finish("00.png", 0, 1, 1)
    os.truncate(journal.path, 5)
    with refused(journal.path, "--resume"):
        Journal(tmp_path, {"model": "a"}, resume=True)
    journal.path.unlink()
    with refused(journal.path, "--resume"):
        Journal(tmp_path, {"model": "a"}, resume=True)
    progress = tmp_path / "predictions.progress.jsonl"
    progress.write_text(progress.read_text() + '{"file_name": 3}\n')
    with refused(progress, "--resume"):
        Journal(tmp_path, {"model": "a"}, resume=True)


def test_broken_arrays_and_long_names_do_not_end_a_prediction(tmp_path, capsys):
    folder, output = tmp_path / "in", tmp_path / "out"
    write(folder / "z.png")
    long = ["a" * 240 + ".png", "b" * 251 + ".png", "é" * 125 + ".png"]
    for name in long:
        shutil.copy(folder / "z.png", folder / name)
    arrays = {
        "bracket": b"{'descr': ('<f8', 'shape': (",
        "nested": b"(" * 9000,
        "huge": b"{'descr': '|u1', 'fortran_order': False, 'shape': (%d, 9), }" % 10**30,
        "large": b"{'descr': '|u1', 'fortran_order': False, 'shape': (%d, 9), }" % 10**11,
    }
    for name, header in arrays.items():
        head = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
        (folder / f"{name}.npy").write_bytes(head + bytes(90))
    options = OutputOptions(crops=True)
    assert predict_folder(Predictor(FakeRun()), [folder], output, options) == 1
    lines = capsys.readouterr().err.splitlines()
    check_faults(lines, *((folder / f"{name}.npy",) for name in sorted(arrays)))
    found = {entry["file_name"] for entry in json.loads((output / "predictions.json").read_text())}
    assert found == {"z.png", *long}
    assert len(list((output / "overlays").iterdir())) == 4


def test_a_video_with_the_longest_name_is_predicted(tmp_path):
    write_video(tmp_path / "film.avi", frames=2)
    path = tmp_path / ("v" * 251 + ".avi")
    (tmp_path / "film.avi").rename(path)
    assert predict_folder(Predictor(FakeRun()), [path], tmp_path / "out") == 0
    assert len(list((tmp_path / "out/overlays").iterdir())) == 1
