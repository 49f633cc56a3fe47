"""Files of the inputs, and their names in the output."""

import os

import cv2
from inference.fake_run import picture
from inference.videos import write_video
from mistakes import refused

from mtl_jax.inference.collect import collect


def write(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture(64, 128, (20, 10, 60, 50)))


def names(found):
    return [file.name for file in found]


def test_folders_are_walked_in_sorted_order(tmp_path):
    for name in ("b.png", "a.jpg", "a.png", "deep/er/c.JPG", "deep/d.bmp"):
        write(tmp_path / name)
    write(tmp_path / ".hidden" / "e.png")
    (tmp_path / ".DS_Store").write_bytes(b"x")
    # FFmpeg can open long texts as videos.
    (tmp_path / "notes.txt").write_text("nothing of length, über alles\n" * 40, "latin-1")
    (tmp_path / "a.png").rename(tmp_path / "no suffix")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    found = collect([tmp_path])
    assert names(found.images) == [
        "a.jpg",
        "b.png",
        "broken.png",
        "deep/d.bmp",
        "deep/er/c.JPG",
        "no suffix",
    ]
    assert names(found.others) == ["notes.txt"]


def test_a_file_has_its_own_name_and_equal_names_have_their_folders(tmp_path):
    write(tmp_path / "x" / "a.png")
    write(tmp_path / "y" / "a.png")
    assert names(collect([tmp_path / "x" / "a.png"]).images) == ["a.png"]
    assert names(collect([tmp_path / "x", tmp_path / "x" / "a.png"]).images) == ["a.png"]
    both = collect([tmp_path / "x", tmp_path / "y" / "a.png"])
    assert names(both.images) == ["x/a.png", "y/a.png"]


def test_a_missing_input_is_refused(tmp_path):
    with refused(tmp_path / "missing"):
        collect([tmp_path / "missing"])


def test_a_pattern_is_expanded(tmp_path, monkeypatch):
    for name in ("b.png", "a1.jpg", "a2.jpg", "deep/a.jpg", "deep/er/c.jpg", ".hidden/d.jpg"):
        write(tmp_path / "in" / name)
    for pattern, found in (
        ("*.jpg", ["a1.jpg", "a2.jpg"]),
        ("a[2-9].jpg", ["a2.jpg"]),
        ("?.png", ["b.png"]),
        ("**/*.jpg", ["a1.jpg", "a2.jpg", "deep/a.jpg", "deep/er/c.jpg"]),
        ("d*p", ["deep/a.jpg", "deep/er/c.jpg"]),  # a folder
        ("d*p/a.jpg", ["deep/a.jpg"]),
        ("deep/*.jpg", ["a.jpg"]),
        ("**", ["a1.jpg", "a2.jpg", "b.png", "deep/a.jpg", "deep/er/c.jpg"]),
    ):
        assert names(collect([f"{tmp_path}/in/{pattern}"]).images) == found, pattern
    monkeypatch.chdir(tmp_path / "in")
    assert names(collect(["*.jpg", "a1.jpg"]).images) == ["a1.jpg", "a2.jpg"]
    assert names(collect(["./d*/*.jpg"]).images) == ["deep/a.jpg"]


def test_a_pattern_without_matches_is_refused(tmp_path):
    write(tmp_path / "a.png")
    for pattern in ("*.jpg", "missing/*.png"):
        with refused(tmp_path / pattern):
            collect([tmp_path / pattern])


def test_brackets_in_an_existing_name_are_not_a_pattern(tmp_path):
    write(tmp_path / "a[1].png")
    write(tmp_path / "a1.png")
    write(tmp_path / "my [old] pictures" / "b.png")
    assert names(collect([tmp_path / "a[1].png"]).images) == ["a[1].png"]
    assert names(collect([tmp_path / "my [old] pictures" / "*.png"]).images) == ["b.png"]


def test_a_video_is_detected_by_its_content(tmp_path):
    write(tmp_path / "a.png")
    write_video(tmp_path / "film.avi").rename(tmp_path / "film")
    (tmp_path / "not.avi").write_text("nothing")
    found = collect([tmp_path])
    assert names(found.images) == ["a.png"]
    assert names(found.videos) == ["film"]
    assert names(found.others) == ["not.avi"]


def test_pipes_and_devices_are_neither_images_nor_videos(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.mp4").symlink_to("pipe.png")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    (tmp_path / "lost.jpg").symlink_to("nowhere")
    found = collect([tmp_path])
    assert [file.name for file in found.images] == ["lost.jpg"]
    assert [file.name for file in found.others] == ["link.mp4", "zero.jpg"]
    assert [file.name for file in collect([tmp_path / "pipe.png"]).others] == ["pipe.png"]
