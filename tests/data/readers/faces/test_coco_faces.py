"""Faces from COCO's person keypoints: which persons have one, its points and its box."""

import json
from pathlib import Path

import numpy as np
import pytest
from annotated import HEIGHT, WIDTH, check_lines, faults, labels_of, open_format, write_picture
from faces import AT, DECLARED, LABELS, SKIP
from mistakes import refused
from real_data import data_set

from mtl_jax.data.face_points import face_box
from mtl_jax.data.readers.faces.coco_faces import head_box
from mtl_jax.data.readers.faces.ibug import read_points

FILE = dict(annotations="person_keypoints.json")
NAMES = ["nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder"]
FRONT = [50, 40, 2, 56, 34, 2, 44, 34, 2, 62, 38, 1, 38, 38, 2, 80, 70, 2]


def person(number: int, keypoints, **more) -> dict:
    row = dict(id=number, image_id=1, category_id=1, iscrowd=0, bbox=[20, 10, 70, 65])
    return {**row, "area": 900, "keypoints": keypoints, **more}


def write(folder: Path, *persons, **category) -> Path:
    write_picture(folder / "images/a.png")
    image = dict(id=1, file_name="a.png", width=WIDTH, height=HEIGHT)
    kind = {**dict(id=1, name="person", keypoints=NAMES), **category}
    path = folder / "person_keypoints.json"
    path.write_text(json.dumps(dict(images=[image], annotations=persons, categories=[kind])))
    return path


def open_faces(folder: Path, labels=LABELS):
    return open_format("coco_faces", folder, labels, **FILE)


def test_only_images_without_persons_are_exhaustive(tmp_path):
    path = write(tmp_path, person(7, FRONT), person(8, [0] * 18, image_id=2))
    lists = json.loads(path.read_text())
    lists["images"] += [{**lists["images"][0], "id": n, "file_name": f"{n}.png"} for n in (2, 3)]
    path.write_text(json.dumps(lists))
    for n in (2, 3):
        write_picture(tmp_path / f"images/{n}.png")
    source = open_faces(tmp_path)
    # The person in the second image has no labelled point, but may show a face.
    assert [(len(r.instances), r.exhaustive) for r in (source[i] for i in range(3))] == [
        (1, False),
        (0, False),
        (0, True),
    ]


def test_a_persons_left_is_the_images_right(tmp_path):
    write(tmp_path, person(7, FRONT))
    source = open_faces(tmp_path)
    record = source[0]
    assert not record.exhaustive
    assert [category.name for category in source.categories] == ["face"]
    (face,) = record.instances
    points = labels_of(face, DECLARED)["face"]
    found = {name: points[place] for name, place in AT.items() if points[place]}
    assert found == {
        "nose_center": [50.5, 40.5, 2],
        "right_eye_center": [56.5, 34.5, 2],
        "left_eye_center": [44.5, 34.5, 2],
        "right_ear": [62.5, 38.5, 1],
        "left_ear": [38.5, 38.5, 2],
    }
    # COCO's keypoints are indices of pixels; ears 24 apart, eyes 12 / 0.48
    np.testing.assert_allclose(face.box, (38, 37.5 + 1.5 - 15, 63, 37.5 + 1.5 + 15), atol=0.01)
    assert face.id == 7


def test_persons_without_labelled_faces_have_no_instance(tmp_path):
    zero = [0] * 18
    ears = [*[0] * 9, 62, 38, 2, 38, 38, 2, 0, 0, 0]
    nose = [50, 40, 2, *[0] * 15]
    crowd = person(4, FRONT, iscrowd=1)
    one = person(6, [50, 40, 2, 50, 40, 2, *[0] * 12])  # two points on one pixel
    every = (person(1, zero), person(2, ears), person(3, nose), crowd, person(5, None), one)
    write(tmp_path, *every)
    source = open_faces(tmp_path)
    assert (len(source), source[0].instances) == (1, ())


FAULTS = [
    (FRONT[:-3], ("keypoints", 6)),
    ([*FRONT[:2], 3, *FRONT[3:]], (0, 1, 2)),
    ([900, *FRONT[1:]], (0, "(900, 40)", WIDTH, HEIGHT)),
    (["x", *FRONT[1:]], ("keypoints",)),
    ("many", ("keypoints", 6)),
]


@pytest.mark.parametrize(("keypoints", "named"), FAULTS)
def test_wrong_keypoints_are_one_line(tmp_path, keypoints, named):
    path = write(tmp_path, person(1, FRONT), person(72, keypoints))
    check_lines(faults("coco_faces", tmp_path, LABELS, **FILE), path, (72, *named))
    assert len(open_faces(tmp_path, SKIP)[0].instances) == 1


def test_other_files_and_missing_images_are_named(tmp_path):
    path = write(tmp_path, person(1, FRONT), keypoints=["head"])
    with refused(path, *NAMES[:5]):
        open_faces(tmp_path)
    write(tmp_path, person(1, FRONT))
    (tmp_path / "images/a.png").unlink()
    named = ("a.png", tmp_path / "images")
    check_lines(faults("coco_faces", tmp_path, LABELS, **FILE), path, named)


def test_boxes_agree_with_those_of_68_points():
    """Compare boxes of HELEN's and AFW's faces with boxes from the points that COCO has. The
    second point of the jaw stands in for the middle of an ear.
    """
    overlaps: dict[str, list[float]] = {"all": [], "no ears": [], "one ear": []}
    for path in sorted(data_set("helen_afw_68").rglob("*.pts")):
        points = read_points(path)
        rows = [points[30], points[42:48].mean(0), points[36:42].mean(0), points[15], points[1]]
        head = {name: (x, y) for name, (x, y) in zip(NAMES, np.array(rows).tolist(), strict=False)}
        expected = face_box(points, 10**5, 10**5)
        for what, hidden in (("all", ()), ("no ears", NAMES[3:5]), ("one ear", NAMES[4:5])):
            seen = {name: xy for name, xy in head.items() if name not in hidden}
            overlaps[what].append(overlap(head_box(seen), expected))
    assert np.mean(overlaps["all"]) > 0.8
    assert np.mean(overlaps["no ears"]) > 0.6
    assert np.mean(overlaps["one ear"]) > 0.55


def overlap(a, b) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return both / (sum(areas) - both)


def test_the_real_file():
    folder = data_set("coco_mini")
    name = "annotations/person_keypoints.json"
    source = open_format("coco_faces", folder, LABELS, annotations=name)
    faces = [face for i in range(len(source)) for face in source[i].instances]
    assert (len(source), len(faces), source.skipped) == (112, 86, ())
    for face in faces:
        known = [point for point in labels_of(face, DECLARED)["face"] if point]
        assert 2 <= len(known) <= 5
        x1, y1, x2, y2 = face.box
        assert all(x1 - 1 <= x <= x2 + 1 and y1 - 1 <= y <= y2 + 1 for x, y, _ in known)
