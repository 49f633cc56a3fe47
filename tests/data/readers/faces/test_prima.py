"""Prima: angles from file names, boxes from the text file beside the image."""

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from annotated import labels_of
from faces import DECLARED
from mistakes import check_names, refused
from real_data import data_set

from mtl_jax.data.readers.faces.prima import PrimaSource
from mtl_jax.images.decode import decode


def save(folder: Path, name: str, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / name), np.zeros((288, 384, 3), np.uint8))
    (folder / name).with_suffix(".txt").write_text(f"{name}\n\n{text}")


def test_labels_are_read_from_names_and_text_files(tmp_path: Path):
    save(tmp_path / "deep/Person01", "person01113-60+90.jpg", "Face\n192\n100\n126\n94\n")
    save(tmp_path / "deep/Person12", "person12292+90+0.jpg", "Face\n50\n50.5\n101\n101\n")
    source = PrimaSource(tmp_path, DECLARED)
    assert source.categories == ((1, "head"),)
    first, second = source[0], source[1]
    assert labels_of(first.instances[0], DECLARED) == {"head": {"yaw": 90, "pitch": -60}}
    assert first.instances[0].box == (129, 53, 255, 147)
    assert second.instances[0].box == (0, 0, 100.5, 101)  # half a pixel outside is clipped
    assert labels_of(second.instances[0], DECLARED) == {"head": {"yaw": 0, "pitch": 90}}
    assert [source.group(i) for i in range(2)] == ["person01", "person12"]
    without = PrimaSource(tmp_path, DECLARED, vertical_yaw=False)
    upright, turned = (labels_of(without[i].instances[0], DECLARED) for i in range(2))
    assert turned == {"head": {"pitch": 90}}
    assert upright == {"head": {"yaw": 90, "pitch": -60}}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Face\n10\n100\n126\n94\n", []),
        ("Face\nnan\n100\n126\n94\n", []),
        ("Face\n192\n100\n126\n", []),
        ("Hand\n192\n100\n126\n94\n", ["Hand"]),
    ],
)
def test_invalid_text_files_are_listed(tmp_path: Path, text: str, parts: list[str]):
    for i in range(100):
        save(tmp_path, f"person01{i + 100}+15-15.jpg", "Face\n192\n100\n126\n94\n")
    save(tmp_path, "person02100+15-15.jpg", text)
    files = tmp_path / "person02100+15-15.jpg", "person02100+15-15.txt"
    (line,) = PrimaSource(tmp_path).skipped
    check_names(line, *files, *parts)
    (tmp_path / "person02100+15-15.txt").unlink()
    (line,) = PrimaSource(tmp_path).skipped
    check_names(line, *files)


def test_another_folder_is_refused(tmp_path: Path):
    save(tmp_path, "person1.jpg", "")
    with refused(tmp_path / "person1.jpg", "person[PP][S][NN][tilt][pan].jpg"):
        PrimaSource(tmp_path)


def test_the_real_folder():
    source = PrimaSource(data_set("prima_headpose"))
    assert source.skipped == ()
    persons = Counter(source.group(i) for i in range(len(source)))
    assert persons == {f"person{i:02}": 186 for i in range(1, 12)}
    for record in map(source.__getitem__, range(99)):
        x1, y1, x2, y2 = record.instances[0].box
        assert 0 <= x1 < x2 <= record.width
        assert 0 <= y1 < y2 <= record.height


def test_yaw_is_positive_where_the_nose_points_to_the_images_left():
    """In a profile, the box encloses the skin on the side of the nose, and dark hair fills the back
    of the head. More dark pixels must be on the side of the box that is opposite to the nose.
    """
    source = PrimaSource(data_set("prima_headpose"), DECLARED)
    at = {source.key(i): i for i in range(len(source))}
    for name, yaw in (
        ("Person01/person01152+0+90.jpg", 90),
        ("Person01/person01140+0-90.jpg", -90),
    ):
        record = source[at[name]]
        instance = record.instances[0]
        assert labels_of(instance, DECLARED)["head"]["yaw"] == yaw
        x1, y1, x2, y2 = (int(value) for value in instance.box)
        gray = decode(Path(record.image), 1)[y1:y2, :, 0]  # type: ignore[arg-type]
        left, right = gray[:, max(x1 - 60, 0) : x1], gray[:, x2 : x2 + 60]
        hair = [float((part < 90).mean()) for part in (left, right)]
        assert (hair[1] > hair[0] + 0.1) == (yaw > 0)
