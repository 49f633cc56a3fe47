"""Samples in the layout of the HyperFace repository, and rows that are wrong."""

import os
import pickle

import numpy as np
import pytest
from annotated import check_lines, faults, labels_of, open_format
from faces import AT, DECLARED, HIDDEN, LABELS, SKIP
from mistakes import refused


def face(**changed) -> list:
    image = np.zeros((20, 40, 3), np.uint8)
    image[..., 0] = 200  # blue
    points, visible = np.full(42, 0.25), np.ones(21)
    points[:2], visible[AT["left_ear"]] = (-0.5, 0), 0
    row = dict(image=image, face=[1, 1], points=points, visible=visible)
    row |= dict(pose=np.array([0.1, 0.2, -0.3]), gender=[1, 0])
    return list((row | changed).values())


def other() -> list:
    return [np.zeros((7, 9, 3), np.uint8), [0, 0], np.zeros(42), np.zeros(21), np.zeros(3), [0, 0]]


def write(folder, rows):
    array = np.empty((len(rows), len(rows[0])), object)
    for i, row in enumerate(rows):
        for j, value in enumerate(row):
            array[i, j] = value
    path = folder / "sample_data.npy"
    np.save(path, array, allow_pickle=True)
    return path


def test_rows_are_regions(tmp_path):
    write(tmp_path, [face(), face(gender=[0, 1]), other(), other(), face(gender=[0, 0])])
    source = open_format("hyperface", tmp_path, LABELS)
    record = source[0]
    assert (record.width, record.height, record.exhaustive) == (40, 20, True)
    assert record.image[0, 0].tolist() == [0, 0, 200]  # RGB
    (instance,) = record.instances
    assert instance.box == (0, 0, 40, 20)
    labels = labels_of(instance, DECLARED)
    assert labels["gender"] == "male"
    expected = {"roll": -np.degrees(0.1), "pitch": np.degrees(0.2), "yaw": -np.degrees(0.3)}
    assert labels["head"] == pytest.approx(expected, abs=1e-4)
    assert labels["face"][0] == [0, 10, 2]
    assert labels["face"][1] == [30, 15, 2]
    assert labels["face"][AT["left_ear"]] == HIDDEN
    assert labels_of(source[1].instances[0], DECLARED)["gender"] == "female"
    assert source[2].instances == ()
    assert "gender" not in source[4].instances[0].attributes
    assert len({source.group(i) for i in range(4)}) == 1
    assert source.group(4) != source.group(3)


FAULTS = [
    (dict(image=np.zeros((20, 40), np.uint8)), (3,)),
    (dict(image=np.zeros((20, 40, 3))), (3,)),
    (dict(face=[1, 0]), ("face", "[1.0, 0.0]", "[1, 1]", "[0, 0]")),
    (dict(points=np.zeros(40)), ("points", 40, 42)),
    (dict(points=np.full(42, 30.0)), ()),
    (dict(visible=np.full(21, np.nan)), ("visibility", 21)),
    (dict(pose=np.array([10.0, 20, 30])), ("pose", "(10, 20, 30)")),
    (dict(pose="up"), ("pose",)),
]


@pytest.mark.parametrize(("changed", "named"), FAULTS)
def test_a_wrong_row_is_one_line(tmp_path, changed, named):
    path = write(tmp_path, [*(face() for _ in range(12)), face(**changed)])
    check_lines(faults("hyperface", tmp_path, LABELS), path, (12, *named))
    assert len(open_format("hyperface", tmp_path, SKIP)) == 12


def test_other_and_hostile_arrays_are_refused(tmp_path):
    path = write(tmp_path, [face()[:5]])
    with refused(path, "(1, 5)", 6):
        open_format("hyperface", tmp_path, LABELS)

    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "hostile"),)

    header = dict(descr="|O", fortran_order=False, shape=(1, 6))
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.write(pickle.dumps(Hostile()))
    with refused(path, "posix.mkdir"):
        open_format("hyperface", tmp_path, LABELS)
    assert not (tmp_path / "hostile").exists()
