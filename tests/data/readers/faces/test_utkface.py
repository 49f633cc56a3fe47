"""UTKFace: labels from file names, invalid names that are listed, groups of one photograph."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from annotated import labels_of
from mistakes import check_names, refused
from real_data import data_set

from mtl_jax.attributes import declarations as attribute_kinds
from mtl_jax.attributes.vocabulary import GENDERS, RACES
from mtl_jax.data.duplicates import near_duplicates
from mtl_jax.data.readers.faces.utkface import UTKFaceSource
from mtl_jax.errors import UserError

DECLARED = attribute_kinds.from_config(
    {
        "age": dict(kind="continuous", range=(0, 116)),
        "gender": dict(kind="categorical", classes=GENDERS),
        "race": dict(kind="categorical", classes=RACES),
    }
)
# The names in the public set that do not contain all labels.
BAD = (
    "61_3_20170109150557335",
    "61_1_20170109142408075",
    "39_1_20170116174525125",
    "53__0_20170116184028385",
)


def texture(seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 255, (25, 25, 3), np.uint8)
    return cv2.resize(coarse, (200, 200), interpolation=cv2.INTER_CUBIC)


def save(folder: Path, name: str, image: np.ndarray) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path.with_suffix(".png")), image)
    return path.with_suffix(".png").rename(path)


def fill(folder: Path, count: int) -> Path:
    for i in range(count):
        save(
            folder,
            f"{i % 117}_{i % 2}_{i % 5}_{20170109000000000 + i}.jpg.chip.jpg",
            texture(i % 9),
        )
    return folder


def test_names_are_labels(tmp_path: Path):
    save(tmp_path, "31_1_2_20170109150557335.jpg.chip.jpg", texture(0)[:120])
    save(tmp_path, "part2/116_0_4_20170109150557336.jpg", texture(1))
    source = UTKFaceSource(tmp_path, DECLARED)
    first, second = source[0], source[1]
    labels = [labels_of(record.instances[0], DECLARED) for record in (first, second)]
    assert labels[0] == {"age": 31, "gender": "female", "race": "Asian"}
    assert labels[1] == {"age": 116, "gender": "male", "race": "Others"}
    assert first.instances[0].box == (0, 0, 200, 120)
    assert (first.width, first.height) == (200, 120)
    assert second.file_name == "part2/116_0_4_20170109150557336.jpg"


def test_the_four_bad_names_are_listed_and_skipped(tmp_path: Path):
    fill(tmp_path, 500)
    for name in BAD:
        save(tmp_path, f"{name}.jpg.chip.jpg", texture(0))
    (tmp_path / "5_0_0_20170109150557335.jpg").touch()
    source = UTKFaceSource(tmp_path)
    assert len(source) == 500
    names = [*(f"{name}.jpg.chip.jpg" for name in BAD), "5_0_0_20170109150557335.jpg"]
    found = sorted(line.partition(": ")[0] for line in source.skipped)
    assert found == sorted(str(tmp_path / name) for name in names)


def test_more_than_a_hundredth_is_refused_unless_skipped(tmp_path: Path):
    fill(tmp_path, 50)
    path = save(tmp_path, f"{BAD[0]}.jpg", texture(0))
    with refused(tmp_path, 1, 51, "config.data.on_error", path):
        UTKFaceSource(tmp_path)
    assert len(UTKFaceSource(tmp_path, on_error="skip")) == 50


def test_folders_without_faces_are_refused(tmp_path: Path):
    expected = "[age]_[gender]_[race]_[date&time].jpg"
    with refused(tmp_path, expected):
        UTKFaceSource(tmp_path)
    with refused(tmp_path / "nowhere"):
        UTKFaceSource(tmp_path / "nowhere")
    path = save(tmp_path, "holiday.jpg", texture(0))
    with refused(tmp_path, 1, expected, path):
        UTKFaceSource(tmp_path, on_error="skip")


def test_a_truncated_image_is_skipped(tmp_path: Path):
    fill(tmp_path, 100)
    path = tmp_path / "9_0_0_20170109150557335.jpg"
    path.write_bytes(cv2.imencode(".jpg", texture(0))[1].tobytes()[:-40])
    (line,) = UTKFaceSource(tmp_path).skipped
    check_names(line, path)


def test_labels_outside_the_declared_range_are_reported(tmp_path: Path):
    fill(tmp_path, 117)
    young = attribute_kinds.from_config({"age": {"kind": "continuous", "range": (0, 99)}})
    first = tmp_path, "100_0_0_20170109000000100.jpg.chip.jpg", "age", 100, 99
    with refused(*first, 17, "config.attributes", "config.data.on_error"):
        UTKFaceSource(tmp_path, young)
    source = UTKFaceSource(tmp_path, young, on_error="skip")
    assert len(source) == 117
    assert len(source.skipped) == 17
    check_names(source.skipped[0], *first)
    assert sum("age" in source[i].instances[0].attributes for i in range(117)) == 100


def test_every_wrong_name_is_reported(tmp_path: Path):
    fill(tmp_path, 20)
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(next(tmp_path.glob("1_*")).read_bytes())
    with pytest.raises(UserError) as caught:
        UTKFaceSource(tmp_path)
    *wrong, summary = str(caught.value).splitlines()
    assert [line.split(": ")[0] for line in wrong] == [
        str(tmp_path / n) for n in ("a.jpg", "b.jpg")
    ]
    check_names(summary, tmp_path, "config.data.on_error")
    check_names(summary.removeprefix(str(tmp_path)), 2, 22, "1%")


def test_copies_mirrors_and_stamps_are_grouped(tmp_path: Path):
    image = texture(0)
    brighter = cv2.convertScaleAbs(image, alpha=0.8, beta=30)
    paths = [
        save(tmp_path, f"{i}.jpg", pixels)
        for i, pixels in enumerate((texture(1), image, texture(2), brighter, image[:, ::-1]))
    ]
    assert near_duplicates(paths) == [0, 1, 2, 1, 1]
    assert near_duplicates(paths, ["a", "b", "a", "c", "d"]) == [0, 1, 0, 1, 1]


def test_the_real_folder():
    folder = data_set("utkface_crop_part1")
    source = UTKFaceSource(folder, DECLARED)
    assert len(source) == 6843
    assert source.skipped == ()
    # The image shows an old woman.
    at = {source.key(i): i for i in range(len(source))}
    old = source[at["100_1_0_20170110183726390.jpg.chip.jpg"]].instances[0]
    assert labels_of(old, DECLARED) == {"age": 100, "gender": "female", "race": "White"}


@pytest.mark.slow
def test_the_real_folders_copies_are_few():
    source = UTKFaceSource(data_set("utkface_crop_part1"))
    groups = [source.group(i) for i in range(len(source))]
    assert 6815 <= len(set(groups)) <= 6835
