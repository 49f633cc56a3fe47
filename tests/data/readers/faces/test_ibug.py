"""iBUG's .pts files: both layouts, photographs with several faces, and broken files."""

import contextlib
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from annotated import HEIGHT, WIDTH, labels_of, open_format, write_picture
from faces import AT, DECLARED, LABELS, SKIP, ibug
from mistakes import check_faults, check_names, refused
from real_data import data_set

from mtl_jax.data.readers.faces.ibug import read_points
from mtl_jax.errors import AnnotationErrors


def write(folder: Path, name: str, points=None, header=False, shade=90) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / f"{name}.png"), np.full((HEIGHT, WIDTH, 3), shade, np.uint8))
    text = "\n".join(f"{x:.6f} {y:.6f}" for x, y in (ibug() if points is None else points))
    if header:
        text = f"version: 1\nn_points:  68\n{{\n{text}\n}}\n"
    path = folder / f"{name}.pts"
    path.write_text(text)
    return path


@pytest.mark.parametrize("header", [False, True])
def test_points_become_a_face(tmp_path, header):
    write(tmp_path, "a", header=header)
    source = open_format("ibug", tmp_path, LABELS)
    record = source[0]
    assert (record.file_name, record.exhaustive) == ("a.png", False)
    assert [category.name for category in source.categories] == ["face"]
    (face,) = record.instances
    points = labels_of(face, DECLARED)["face"]
    # The files count pixels from 1: a point at 1 is the centre of the first pixel, 0.5.
    np.testing.assert_allclose(points[AT["chin"]], ibug()[8] - 0.5, atol=1e-5)
    np.testing.assert_allclose(points[AT["left_brow_left"]], ibug()[17] - 0.5, atol=1e-5)
    assert points[AT["left_ear"]] is points[AT["right_ear"]] is None
    assert set(face.attributes) == {"face"}
    (x1, y1), (x2, y2) = ibug().min(0) - 0.5, ibug().max(0) - 0.5
    np.testing.assert_allclose(face.box, (x1, y1 - 0.25 * (y2 - y1), x2, y2), atol=1e-4)


def test_extensions_may_be_upper_case(tmp_path):
    write(tmp_path, "a").with_suffix(".png").rename(tmp_path / "a.PNG")
    assert open_format("ibug", tmp_path, LABELS)[0].file_name == "a.PNG"


def test_faces_of_one_photograph_are_one_image_or_one_group(tmp_path):
    write(tmp_path, "29_1")
    write(tmp_path, "29_2", ibug((30, 40), 30))
    write(tmp_path, "29_3", shade=95)  # another crop of the photograph
    write(tmp_path, "indoor_001")
    write(tmp_path, "indoor_002")
    source = open_format("ibug", tmp_path, LABELS)
    records = [source[i] for i in range(len(source))]
    names = ["29_1.png", "29_3.png", "indoor_001.png", "indoor_002.png"]
    assert [record.file_name for record in records] == names
    assert [len(record.instances) for record in records] == [2, 1, 1, 1]
    assert [source.group(i) for i in range(4)] == ["29", "29", "indoor_001", "indoor_002"]


FAULTS = [  # a change that breaks a file, and what the message names: counts, positions, values
    (lambda text: "\n".join(text.split("\n")[1:]), (67, 68)),
    (lambda text: "{\n" + text, ()),
    (lambda text: re.sub(r"^\S+", "1e5", text), (0, "99999.5")),
    (lambda text: re.sub(r"^\S+", "nan", text), (0, "nan")),
    (lambda text: re.sub(r"^\S+", "x", text), ("x",)),
    (lambda text: re.sub(r"^\S+ ", "", text), (0, "36.000000")),
    (lambda text: "", (0, 68)),
]


@pytest.mark.parametrize(("spoil", "parts"), FAULTS)
def test_a_broken_file_is_one_line(tmp_path, spoil, parts):
    write(tmp_path, "good")
    path = write(tmp_path, "bad")
    path.write_text(spoil(path.read_text()))
    with pytest.raises(AnnotationErrors) as caught:
        open_format("ibug", tmp_path, LABELS)
    (line,) = caught.value.faults
    check_names(line, tmp_path, "bad.pts")
    check_names(line.partition("bad.pts")[2], *parts)
    source = open_format("ibug", tmp_path, SKIP)
    assert (len(source), source.skipped) == (1, (line,))


def test_a_missing_or_broken_image_is_one_line(tmp_path):
    write(tmp_path, "a").with_suffix(".png").unlink()
    write(tmp_path, "b").with_suffix(".png").write_bytes(b"not an image")
    with pytest.raises(AnnotationErrors) as caught:
        open_format("ibug", tmp_path, LABELS)
    check_faults(caught.value.faults, (tmp_path, "a.pts", "a.jpg"), (tmp_path, "b.pts"))
    write_picture(tmp_path / "empty/a.png")
    with refused(tmp_path / "empty", ".pts"):
        open_format("ibug", tmp_path / "empty", LABELS)


def test_any_text_is_points_or_a_fault(tmp_path):
    rng = np.random.default_rng(0)
    path = write(tmp_path, "a", header=True)
    good = path.read_bytes()
    for _ in range(300):
        data = bytearray(good)
        for place in rng.integers(0, len(data), rng.integers(1, 4)):
            data[place] = rng.choice(list(b"0 .{}\n-e\xffx"))
        path.write_bytes(bytes(data[: rng.integers(len(data) // 2, len(data) + 1)]))
        with contextlib.suppress(ValueError):
            assert read_points(path).shape == (68, 2)


def test_the_real_folder():
    source = open_format("ibug", data_set("helen_afw_68"), LABELS)
    records = [source[i] for i in range(len(source))]
    assert len(records) == 128  # 131 files; three photographs have two faces in the same image
    faces = [len(record.instances) for record in records]
    assert (sum(faces), max(faces)) == (131, 2)
    assert source.skipped == ()
    assert len({source.group(i) for i in range(len(source))}) == 124
    for record in records:
        for face in record.instances:
            points = labels_of(face, DECLARED)["face"]
            left, right, chin = (
                points[AT[n]] for n in ("left_eye_center", "right_eye_center", "chin")
            )
            assert left[0] < right[0]
            assert chin[1] > max(left[1], right[1])
