"""Copies of folders of faces with masks drawn on them."""

import errno
import json
import os
import shutil

import cv2
import numpy as np
import pytest
import scipy.io
from annotated import open_format
from faces import ibug
from mistakes import check_faults, check_names, refused

from mtl_jax.data.__main__ import main
from mtl_jax.data.face_masks.textures import KINDS
from mtl_jax.data.face_points import from_ibug
from mtl_jax.data.tools.mask_faces import write_masked


def test_a_folder_is_copied_with_masks(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for name in ("a.png", "deep/b.png", "c.jpg"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "in" / name), rng.integers(90, 200, (80, 80, 3), np.uint8))
    (tmp_path / "in/broken.jpg").write_bytes(b"not an image")
    points = "\n".join(f"{x} {y}" for x, y in ibug((40.0, 40.0), 50.0))
    (tmp_path / "in/a.pts").write_text(points)
    folders = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    assert main(["mask-faces", *folders, "--seed", "4"]) == 1
    check_names(capsys.readouterr().err, tmp_path / "in/broken.jpg")
    worn = json.loads((tmp_path / "out/masks.json").read_text())
    assert set(worn) == {"a.png", "deep/b.png", "c.jpg"}
    for name in worn:
        outline = cv2.imread(str(tmp_path / "out/outlines" / name.replace("jpg", "png")), 0)
        assert set(np.unique(outline)) == {0, 255}
        (face,) = worn[name]
        assert face["kind"] in KINDS
    assert cv2.imread(str(tmp_path / "out/sheet.png")).shape == (128, 1024, 3)
    with refused(tmp_path / "out", "--output"):
        main(["mask-faces", *folders])
    shutil.copytree(tmp_path / "out", tmp_path / "first")
    shutil.rmtree(tmp_path / "out")
    main(["mask-faces", *folders, "--seed", "4"])
    for name in ("images/a.png", "images/deep/b.png", "masks.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "first" / name).read_bytes()


def test_points_far_outside_and_broken_files_are_named(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("far", "out", "mat", "good"):
        cv2.imwrite(str(tmp_path / f"in/{name}.png"), np.full((60, 60, 3), 120, np.uint8))
    places = {"far": (900.0, 40.0, 40.0), "out": (-12.0, 30.0, 4.0), "good": (30.0, 30.0, 40.0)}
    for name, (x, y, width) in places.items():
        points = ibug((x, y), width).T
        scipy.io.savemat(tmp_path / f"in/{name}.mat", {"pt2d": points})
    (tmp_path / "in/mat.mat").touch()
    written = write_masked(tmp_path / "in", tmp_path / "out")
    assert written.images == 2
    check_faults(
        written.faults,
        (tmp_path / "in/far.png", "(879.5, 35.5)", 60),
        (tmp_path / "in/mat.png", "mat.mat"),
    )
    worn = json.loads((tmp_path / "out/masks.json").read_text())
    assert set(worn) == {"out.png", "good.png"}


def test_an_image_that_is_not_a_chip_is_left_out(tmp_path):
    (tmp_path / "in").mkdir()
    for name, height, width in (
        ("chip", 60, 60),
        ("also", 60, 60),
        ("dot", 8, 8),
        ("photo", 60, 90),
    ):
        cv2.imwrite(str(tmp_path / f"in/{name}.png"), np.full((height, width, 3), 120, np.uint8))
    written = write_masked(tmp_path / "in", tmp_path / "out")
    assert written.images == 2
    check_faults(
        written.faults,
        (tmp_path / "in/dot.png", "8 x 8", 16),
        (tmp_path / "in/photo.png", 90, 60, "--faces"),
    )
    for more in range(3):  # now a square image is not a chip
        cv2.imwrite(str(tmp_path / f"in/{more}.png"), np.full((60, 50, 3), 120, np.uint8))
    with refused(tmp_path / "in", 7, tmp_path / "in/0.png", 50, 60):
        write_masked(tmp_path / "in", tmp_path / "again")


def test_the_output_must_not_be_inside_the_input(tmp_path):
    cv2.imwrite(str(tmp_path / "chip.png"), np.full((60, 60, 3), 120, np.uint8))
    with refused(tmp_path / "masked", "--input"):
        write_masked(tmp_path, tmp_path / "masked")


def test_every_point_of_a_file_is_checked_and_named_by_its_number(tmp_path):
    (tmp_path / "in").mkdir()
    for bad in (3, 20, 30):  # of the jaw, a brow, the nose
        cv2.imwrite(str(tmp_path / f"in/{bad}.png"), np.full((60, 60, 3), 120, np.uint8))
        points = ibug((30.0, 30.0), 40.0)
        points[bad] = (99999.0, 17.0)
        scipy.io.savemat(tmp_path / f"in/{bad}.mat", {"pt2d": points.T})
    with refused(tmp_path / "in/20.png") as caught:
        write_masked(tmp_path / "in", tmp_path / "out")
    check_names(str(caught.value).partition("20.png")[2], 20, "(99998.5, 16.5)")


def test_the_files_beside_an_image_are_copied(tmp_path):
    folder = tmp_path / "in"
    (folder / "val").mkdir(parents=True)
    for name in ("val/1.jpg", "val/2.jpg", "=1+1.jpg"):
        cv2.imwrite(str(folder / name), np.full((80, 80, 3), 150, np.uint8))
    points = "\n".join(f"{x} {y}" for x, y in ibug((40.0, 40.0), 50.0))
    (folder / "val/1.pts").write_text(points)
    rows = ["file,age,gender,race,service_test", "val/1.jpg,20-29,Male,White,True"]
    rows += ["=1+1.jpg,20-29,Male,White,=1+1"]
    (folder / "fairface_labels.csv").write_text("\n".join([*rows, "val/9.jpg,3-9,Male,White,True"]))
    assert write_masked(folder, tmp_path / "out").images == 3
    assert (tmp_path / "out/images/val/1.pts").read_text() == points
    source = open_format("fairface", tmp_path / "out/images")
    assert [source[i].file_name for i in range(len(source))] == ["val/1.png", "=1+1.png"]
    assert "'=1+1" in (tmp_path / "out/images/fairface_labels.csv").read_text()
    found = open_format("masks", tmp_path / "out", images="images", annotations="outlines")
    assert [len(found[i].instances) for i in range(3)] == [1, 1, 1]


def predicted(name, points, score=0.9, kind="face"):
    return {"file_name": name, "score": score, "attributes": {"age": {"value": 3.0}, kind: points}}


def test_detected_faces_are_masked(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for name in ("two.png", "none.png", "unsure.png"):
        cv2.imwrite(str(tmp_path / "in" / name), rng.integers(90, 200, (80, 200, 3), np.uint8))
    left, right = (ibug(center, 40.0) for center in ((40.0, 40.0), (150.0, 40.0)))
    rows = [[*point, 0.9] for point in left.tolist()]
    off = [[x, y + 300.0, v] for x, y, v in rows]  # outside the image
    # iBUG has no ears; here they are hidden, so their positions are arbitrary.
    few = [[-500.0, -500.0, 0.2] if p is None else [*p[:2], 0.9] for p in from_ibug(right)]
    found = [
        predicted("two.png", {"points": rows}),
        predicted("two.png", {"points": few}),
        predicted("two.png", {"points": off}),
        predicted("unsure.png", {"points": rows}, score=0.89),
        predicted("film.mp4", {"points": rows}),
    ]
    (tmp_path / "found.json").write_text(json.dumps(found))
    written = write_masked(tmp_path / "in", tmp_path / "out", faces=tmp_path / "found.json")
    assert written.images == 1
    named = (tmp_path / "found.json", 0.9)
    check_faults(
        written.faults,
        (tmp_path / "in/none.png", *named),
        (tmp_path / "in/unsure.png", *named),
    )
    worn = json.loads((tmp_path / "out/masks.json").read_text())
    assert [face["kind"] in KINDS for face in worn["two.png"]] == [True, True]
    outline = cv2.imread(str(tmp_path / "out/outlines/two.png"), 0) > 0
    for points in (left, right):
        x, y = points[[62, 66]].mean(0).astype(int)  # the mouth
        assert outline[y + 3, x]
    assert not outline[:, 90:105].any()
    sheet = cv2.imread(str(tmp_path / "out/sheet.png"))
    assert [sheet[:, x : x + 128].any() for x in (0, 128, 256)] == [True, True, False]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("\n" * 12 + "[", (13, 2)),  # line and column
        (json.dumps([predicted("a.png", {"value": 1.0})]), (21, 68)),
        (json.dumps([predicted("a.png", {"points": [[0, 0, 1]] * 5})]), (21, 68)),
        (json.dumps([predicted("a.png", {"points": [0] * 21})]), (21, 68)),
        (json.dumps({"images": []}), (21, 68)),
        ("3", (21, 68)),
        ("[]", ("a.png", 0.9)),
    ],
)
def test_predictions_without_faces_or_landmarks_are_refused(tmp_path, text, named):
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in/a.png"), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "found.json").write_text(text)
    with refused(tmp_path / "found.json", *named):
        write_masked(tmp_path / "in", tmp_path / "out", faces=tmp_path / "found.json")
    with refused(tmp_path / "nowhere.json", os.strerror(errno.ENOENT)):
        write_masked(tmp_path / "in", tmp_path / "out", faces=tmp_path / "nowhere.json")
