"""AFLW2000-3D's and 300W-LP's .mat files: written by the tests, broken, and real ones."""

from pathlib import Path

import numpy as np
import pytest
import scipy.io
from annotated import HEIGHT, WIDTH, check_lines, faults, labels_of, open_format, write_picture
from faces import AT, DECLARED, HIDDEN, LABELS, SKIP, ibug
from mistakes import refused
from real_data import data_set

from mtl_jax.attributes.vocabulary import LANDMARKS
from mtl_jax.errors import AnnotationErrors

POSE = np.radians([[10.0, -20.0, 30.0, 0, 0, 0, 0]])  # pitch, yaw, roll


def write(folder: Path, name: str, lp: bool = False, **changed) -> Path:
    write_picture(folder / f"{name}.jpg")
    aflw = np.stack([np.arange(20.0, 41), np.full(21, 30.0)])
    aflw[:, AT["left_ear"]] = -1
    arrays = {"Pose_Para": POSE, "Illum_Para": np.zeros((1, 10)), "roi": np.zeros((1, 4))}
    if lp:
        arrays["pt2d"] = ibug().T
    else:
        arrays |= {"pt2d": aflw, "pt3d_68": np.vstack([ibug().T, np.zeros(68)])}
    arrays |= changed
    path = folder / f"{name}.mat"
    scipy.io.savemat(path, {k: v for k, v in arrays.items() if v is not None})
    return path


@pytest.mark.parametrize("lp", [False, True])
def test_pose_points_and_box(tmp_path, lp):
    write(tmp_path, "image00002", lp)
    source = open_format("300w_lp" if lp else "aflw2000", tmp_path, LABELS)
    record = source[0]
    assert not record.exhaustive
    (face,) = record.instances
    labels = labels_of(face, DECLARED)
    assert labels["head"] == pytest.approx({"yaw": -20, "pitch": 10, "roll": 30})
    points = labels["face"]
    if lp:
        np.testing.assert_allclose(points[AT["nose_center"]], ibug()[30] - 0.5)
        assert points[AT["left_ear"]] is None
    else:
        assert points[AT["left_ear"]] == HIDDEN
        assert points[0] == [19.5, 29.5, 2]  # the centre of MATLAB's pixel (20, 30)
        assert sum(point[2] == 2 for point in points) == 20
    (x1, y1), (x2, y2) = ibug().min(0) - 0.5, ibug().max(0) - 0.5
    np.testing.assert_allclose(face.box, (x1, y1 - 0.25 * (y2 - y1), x2, y2), atol=1e-5)


def test_renderings_of_a_photograph_are_one_group(tmp_path):
    names = {
        "AFW/AFW_134212_1_0": "AFW_134212",
        "AFW/AFW_134212_2_11": "AFW_134212",
        "AFW_Flip/AFW_134212_1_0": "AFW_134212",
        "IBUG/IBUG_image_003_1_2": "IBUG_image_003",
        "LFPW/LFPW_image_test_0001_5": "LFPW_image_test_0001",
        "LFPW/LFPW_image_test_0002_5": "LFPW_image_test_0002",
    }
    for name in (*names, "Code/Mean"):
        write(tmp_path, name, lp=True)
    source = open_format("300w_lp", tmp_path, LABELS)
    found = {source[i].file_name[:-4]: source.group(i) for i in range(len(source))}
    assert found == names


FAULTS = [
    ({"Pose_Para": np.degrees(POSE)}, ("Pose_Para", "(10, -20, 30)")),
    ({"Pose_Para": None}, ("Pose_Para",)),
    ({"pt3d_68": np.zeros((3, 67))}, (67, 68)),
    ({"pt3d_68": None}, ("pt3d_68",)),
    ({"pt2d": np.zeros((2, 20))}, (20, 68)),
    ({"pt2d": np.full((2, 21), 900.0)}, (0, "(900, 900)", WIDTH, HEIGHT)),
    ({"pt3d_68": np.full((3, 68), np.nan)}, (0, "(nan, nan)")),
    ({"Pose_Para": "a text as long as any"}, ("Pose_Para",)),
]


@pytest.mark.parametrize(("changed", "named"), FAULTS)
def test_a_wrong_file_is_one_line(tmp_path, changed, named):
    write(tmp_path, "good")
    write(tmp_path, "bad", **changed)
    check_lines(faults("aflw2000", tmp_path, LABELS), tmp_path, ("bad.jpg", *named))
    assert len(open_format("aflw2000", tmp_path, SKIP)) == 1


def test_a_missing_or_truncated_file_is_one_line(tmp_path):
    write(tmp_path, "good")
    path = write(tmp_path, "bad")
    data = path.read_bytes()
    for length in range(0, len(data) - 1, 97):
        path.write_bytes(data[:length])
        try:
            source = open_format("aflw2000", tmp_path, LABELS)
        except AnnotationErrors as error:
            check_lines(error.faults, tmp_path, ("bad.jpg",))
        else:  # the missing part is not needed
            one, other = (labels_of(source[i].instances[0], DECLARED) for i in range(2))
            assert one == other
    path.unlink()
    check_lines(faults("aflw2000", tmp_path, LABELS), tmp_path, ("bad.jpg", "bad.mat"))


def test_folders_without_images_are_refused(tmp_path):
    with refused(tmp_path, ".mat"):
        open_format("aflw2000", tmp_path, LABELS)
    with refused(tmp_path / "none"):
        open_format("aflw2000", tmp_path / "none", LABELS)


def real() -> dict[str, dict]:
    source = open_format("aflw2000", data_set("aflw2000_prnet16"), LABELS)
    assert source.skipped == ()
    records = [source[i] for i in range(len(source))]
    return {r.file_name: labels_of(r.instances[0], DECLARED) for r in records}


def test_the_real_angles_agree_with_the_real_points():
    """Yaw > 0 turns the nose to the image's left, pitch > 0 turns it up, and roll > 0 lowers the
    side of the face at the image's right.
    """
    faces = real()
    assert len(faces) == 12
    for name, labels in faces.items():
        at = dict(zip(LANDMARKS, labels["face"], strict=True))
        pose = labels["head"]
        ears = [side for side in ("left", "right") if at[f"{side}_ear"][2] == 2]
        if abs(pose["yaw"]) > 25:  # the ear on the nose's side is hidden
            assert ears == ["right" if pose["yaw"] > 0 else "left"], name
        eyes = [at["left_eye_left"], at["right_eye_right"]]
        if abs(pose["roll"]) > 3 and abs(pose["yaw"]) < 30 and all(eye[2] == 2 for eye in eyes):
            assert (eyes[1][1] > eyes[0][1]) == (pose["roll"] > 0), name
    up = faces["image00514.jpg"]
    assert up["head"]["pitch"] == pytest.approx(30.7, abs=0.1)
    assert up["face"][AT["left_ear"]][1] > up["face"][AT["nose_center"]][1]
    assert up["face"][AT["right_ear"]][1] > up["face"][AT["nose_center"]][1]


def test_boxes_of_real_faces_contain_their_points():
    source = open_format("aflw2000", data_set("aflw2000_prnet16"), LABELS)
    inside = []
    for i in range(len(source)):
        (face,) = source[i].instances
        x1, y1, x2, y2 = face.box
        seen = [point for point in labels_of(face, DECLARED)["face"] if point[2] == 2]
        inside += [x1 - 5 <= x <= x2 + 5 and y1 <= y <= y2 + 5 for x, y, _ in seen]
    assert np.mean(inside) > 0.95
