"""YouTube Faces: rows of the table, groups of one person, and rows that are wrong."""

from pathlib import Path

import numpy as np
import pytest
from annotated import labels_of, open_format, write_picture
from faces import AT, DECLARED, LABELS, SKIP, ibug
from mistakes import check_names, refused
from real_data import data_set

from mtl_jax.errors import AnnotationErrors

HEAD = "," + ",".join(str(i) for i in range(136))


def row(name: str, points=None) -> str:
    flat = (ibug() if points is None else np.asarray(points)).ravel()
    return f"{name}," + ",".join(f"{value:.6f}" for value in flat)


def write(folder: Path, *rows: str) -> Path:
    for each in rows:
        write_picture(folder / each.split(",")[0])
    path = folder / "keypoints.csv"
    path.write_text("\n".join([HEAD, *rows]) + "\n")
    return path


def test_rows_are_faces_and_persons_are_groups(tmp_path):
    write(tmp_path, row("Abdullah_Gul_50.jpg"), row("Abdullah_Gul_51.jpg"), row("A_B_00.jpg"))
    table = tmp_path / "keypoints.csv"
    for head in (HEAD, f"name{HEAD}"):
        table.write_text(table.read_text().replace(HEAD, head))
        source = open_format("youtube_faces", tmp_path, LABELS)
        assert len(source) == 3
    assert [source.group(i) for i in range(3)] == ["Abdullah_Gul", "Abdullah_Gul", "A_B"]
    record = source[0]
    assert (record.file_name, record.exhaustive) == ("Abdullah_Gul_50.jpg", False)
    points = labels_of(record.instances[0], DECLARED)["face"]
    # The table has indices of pixels, counted from 0.
    np.testing.assert_allclose(points[AT["mouth_right"]], ibug()[54] + 0.5, atol=1e-5)
    assert points[AT["right_ear"]] is None


FAULTS = [  # a row, and what the message names beside the table: line, image and fault
    (row("b.jpg", ibug()[:67]), (3, "b.jpg", 67, 68)),
    (row("b.jpg", np.where(np.arange(68) == 7, 5000, ibug().T).T), (3, "b.jpg", 7, 5000)),
    (row("b.jpg").replace("b.jpg,", "b.jpg,x"), (3, "b.jpg", "x30.000000")),
    (row("a_1.jpg"), ("a_1.jpg",)),
]


@pytest.mark.parametrize(("wrong", "parts"), FAULTS)
def test_a_wrong_row_is_one_line(tmp_path, wrong, parts):
    path = write(tmp_path, row("a_1.jpg"), wrong)
    with pytest.raises(AnnotationErrors) as caught:
        open_format("youtube_faces", tmp_path, LABELS)
    (line,) = caught.value.faults
    assert line.startswith(f"{path}: ")
    check_names(line.removeprefix(f"{path}: "), *parts)
    source = open_format("youtube_faces", tmp_path, SKIP)
    assert (len(source), len(source[0].instances)) == (1, 1)


def test_missing_images_and_tables_are_named(tmp_path):
    path = write(tmp_path, row("a_1.jpg"), row("b_1.jpg"))
    (tmp_path / "b_1.jpg").unlink()
    with pytest.raises(AnnotationErrors) as caught:
        open_format("youtube_faces", tmp_path, LABELS)
    (line,) = caught.value.faults
    assert line.startswith(f"{path}: ")
    check_names(line.removeprefix(f"{path}: "), 3, "b_1.jpg")
    path.unlink()
    with refused(tmp_path, "config.data.annotations", ".csv"):
        open_format("youtube_faces", tmp_path, LABELS)


def test_the_real_table():
    source = open_format("youtube_faces", data_set("ytfaces68_udacity"), LABELS)
    assert (len(source), source.skipped) == (176, ())
    assert len({source.group(i) for i in range(len(source))}) == 176
    for i in range(0, 176, 10):
        points = labels_of(source[i].instances[0], DECLARED)["face"]
        assert points[AT["left_eye_center"]][0] < points[AT["right_eye_center"]][0]
        assert points[AT["chin"]][1] > points[AT["nose_center"]][1]
