"""BIWI's frames: angles of matrices, boxes of heads at known positions, and broken files."""

import cv2
import numpy as np
import pytest
from annotated import check_lines, faults, labels_of, open_format
from faces import AXES, CALIBRATION, DECLARED, LABELS, SKIP, write_biwi, write_frame
from hypothesis import given
from hypothesis import strategies as st
from mistakes import refused

from mtl_jax.data.readers.faces.biwi import HEAD, angles
from mtl_jax.data.synthetic.surfaces import rotation

CENTER = (43.4, -30.7, 906.9)


def test_a_frame_is_a_head(tmp_path):
    turn = AXES @ rotation(20, 0, 0) @ AXES
    write_frame(tmp_path / "12", 3, turn, CENTER)
    source = open_format("biwi", tmp_path, LABELS)
    record = source[0]
    assert (record.file_name, record.width, record.height) == ("12/frame_00003_rgb.png", 640, 480)
    assert record.exhaustive
    assert [category.name for category in source.categories] == ["head"]
    (head,) = record.instances
    pose = labels_of(head, DECLARED)["head"]
    assert pose == pytest.approx({"yaw": 20, "pitch": 0, "roll": 0}, abs=1e-3)

    rows = [[float(word) for word in line.split()] for line in CALIBRATION.splitlines() if line]
    turn, shift = np.array(rows[4:7]), np.array(rows[7])
    to, _ = cv2.Rodrigues(turn)
    middle, _ = cv2.projectPoints(np.array([CENTER]), to, shift, np.array(rows[:3]), None)
    x1, y1, x2, y2 = head.box
    np.testing.assert_allclose(((x1 + x2) / 2, (y1 + y2) / 2), middle[0, 0], atol=1e-3)
    z = turn[2] @ CENTER + shift[2]
    np.testing.assert_allclose((x2 - x1, y2 - y1), 517.679 * np.array(HEAD) / z, atol=1e-3)


@pytest.mark.parametrize("angle", ["yaw", "pitch", "roll"])
@pytest.mark.parametrize("value", [-70.0, 35.0])
def test_signs_are_those_of_drawn_heads(angle, value):
    expected = {"yaw": 0.0, "pitch": 0.0, "roll": 0.0, angle: value}
    assert angles(AXES @ rotation(**expected) @ AXES) == pytest.approx(expected, abs=1e-6)


@given(st.floats(-85, 85), st.floats(-120, 120), st.floats(-170, 170))
def test_angles_of_a_composed_rotation_are_recovered(yaw, pitch, roll):
    """The order is roll, yaw, pitch, as in 300W-LP."""
    alone = [rotation(0, pitch, 0), rotation(yaw, 0, 0), rotation(0, 0, roll)]
    found = angles(AXES @ np.linalg.multi_dot(alone) @ AXES)
    assert found == pytest.approx({"yaw": yaw, "pitch": pitch, "roll": roll}, abs=1e-5)


def test_a_published_matrix_has_the_angles_of_deep_head_pose():
    """The matrix is that of sequence 12's first frame; the formulas are deep-head-pose's."""
    matrix = [[0.980639, 0.109899, 0.162077], [-0.11023, 0.993882, -0.00697376]]
    matrix = np.array([*matrix, [-0.161851, -0.011027, 0.986754]])
    side = np.hypot(matrix[1, 2], matrix[2, 2])
    expected = {
        "yaw": np.degrees(np.arctan2(matrix[0, 2], side)),
        "pitch": np.degrees(np.arctan2(matrix[1, 2], matrix[2, 2])),
        "roll": -np.degrees(np.arctan2(matrix[0, 1], matrix[0, 0])),
    }
    assert angles(matrix) == pytest.approx(expected, abs=1e-4)


def test_a_person_recorded_twice_stays_together(tmp_path):
    write_biwi(tmp_path, frames=1)
    source = open_format("biwi", tmp_path, LABELS)
    groups = {source[i].file_name[:2]: source.group(i) for i in range(len(source))}
    assert len(groups) == 24
    assert len(set(groups.values())) == 20
    for one, other in (("03", "15"), ("05", "18"), ("02", "21"), ("07", "22")):
        assert groups[one] == groups[other]


TURN = AXES @ rotation(10, 20, 30) @ AXES
FAULTS = [
    (dict(turn=TURN * 1.01), (0.02,)),
    (dict(turn=np.full((3, 3), np.nan)), ("frame_00004_pose.txt", 4)),
    (dict(turn=TURN * (1, 1, -1)), ()),
    (dict(turn=np.zeros((3, 3))), (1,)),
    (dict(center=(0, 0, -900)), ("(-32.3846, -7.65027, -913.09)",)),
    (dict(center=(9000, 0, 900)), (640, 480)),
]


@pytest.mark.parametrize(("changed", "named"), FAULTS)
def test_a_wrong_frame_is_one_line(tmp_path, changed, named):
    write_frame(tmp_path / "01", 3, TURN, CENTER)
    write_frame(tmp_path / "01", 4, TURN, CENTER)
    path = tmp_path / "01/frame_00004_pose.txt"
    turn, center = changed.get("turn", TURN), changed.get("center", CENTER)
    path.write_text("\n".join(" ".join(map(str, row)) for row in (*turn, center)))
    found = faults("biwi", tmp_path, LABELS)
    check_lines(found, tmp_path, ("01/frame_00004_rgb.png", *named))
    assert len(open_format("biwi", tmp_path, SKIP)) == 1


@pytest.mark.parametrize(
    "text", ["", "1 0 0\n0 1 0\n0 0 1\n", "1 0 0\n0 1\n0 0 1\n\n1 2 3\n", "a b"]
)
def test_a_truncated_pose_is_one_line(tmp_path, text):
    write_frame(tmp_path / "01", 3, TURN, CENTER)
    path = tmp_path / "01/frame_00003_pose.txt"
    named = ("01/frame_00003_rgb.png", "frame_00003_pose.txt")
    path.write_text(text)
    check_lines(faults("biwi", tmp_path, LABELS), tmp_path, named)
    path.unlink()
    check_lines(faults("biwi", tmp_path, LABELS), tmp_path, named)


def test_a_wrong_calibration_is_one_line(tmp_path):
    for number in (3, 4):
        path = write_frame(tmp_path / "01", number, TURN, CENTER)
    path = path.with_name("rgb.cal")
    for text, named in (
        (CALIBRATION.replace("0.999947", "1.2"), (0.44,)),
        (CALIBRATION.replace("517.679 0 320", "0 0 320"), ()),
        (CALIBRATION[:60], (8,)),
    ):
        path.write_text(text)
        check_lines(faults("biwi", tmp_path, LABELS), tmp_path, ("01/rgb.cal", *named))
    path.unlink()
    check_lines(faults("biwi", tmp_path, LABELS), tmp_path, ("01/rgb.cal",))


def test_a_broken_image_and_another_folder_are_named(tmp_path):
    with refused(tmp_path, "frame_NNNNN_rgb.png"):
        open_format("biwi", tmp_path, LABELS)
    write_frame(tmp_path / "01", 3, TURN, CENTER).write_bytes(b"not an image")
    check_lines(faults("biwi", tmp_path, LABELS), tmp_path, ("01/frame_00003_rgb.png",))
