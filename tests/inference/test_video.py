"""Videos through `predict_folder` and `Predictor.predict_frames`."""

import json
import re

import cv2
import numpy as np
import pytest
from inference.fake_run import FakeRun, picture
from inference.videos import FPS, box_of, break_off, read_video, turn, write_video
from mistakes import check_faults, check_names, refused

from mtl_jax.errors import UserError
from mtl_jax.inference import video
from mtl_jax.inference.files import OutputOptions, predict_folder
from mtl_jax.inference.predictor import Predictor
from mtl_jax.inference.times import Times


def entries_of(output):
    return json.loads((output / "predictions.json").read_text())


def numbers(line, folder):
    """Return the whole numbers in `line`, without those in paths below `folder`."""
    return re.findall(r"\d+", line.replace(str(folder), ""))


def test_a_video_keeps_its_rate_size_and_frames(tmp_path, capsys):
    write_video(tmp_path / "in/deep/film.mp4")
    run, output = FakeRun(batch_size=8), tmp_path / "out"
    options = OutputOptions(style="masks")
    assert predict_folder(Predictor(run), [tmp_path / "in"], output, options) == 0
    frames, fps = read_video(output / "overlays/deep/film.mp4.mp4")
    assert frames.shape == (20, 64, 128, 3)
    assert fps == FPS
    assert [len(batch.images) for batch in run.batches] == [8, 8, 8]
    assert [int(batch.valid.sum()) for batch in run.batches] == [8, 8, 4]
    entries = entries_of(output)
    assert [e["image_id"] for e in entries] == list(range(20))
    assert [e["frame"] for e in entries] == list(range(20))
    assert [e["time"] for e in entries] == [round(i / FPS, 3) for i in range(20)]
    assert {e["file_name"] for e in entries} == {"deep/film.mp4"}
    for i, entry in enumerate(entries):
        x1, y1, x2, y2 = box_of(i)
        np.testing.assert_allclose(entry["bbox"], [x1, y1, x2 - x1, y2 - y1], atol=2)
        columns = np.flatnonzero((frames[i].max(-1) > 128).any(0))  # drawn on its own frame
        np.testing.assert_allclose([columns[0], columns[-1] + 1], [x1, x2], atol=3)
    printed = capsys.readouterr()
    check_names(printed.out, output / "predictions.json", "decode")
    assert numbers(printed.out.splitlines()[0], tmp_path) == ["20", "20"]
    assert printed.err == ""


def test_images_keep_their_ids_and_frames_follow(tmp_path, capsys):
    folder = tmp_path / "in"
    write_video(folder / "a.avi", frames=3)
    write_video(folder / "c.avi", frames=2).rename(folder / "no suffix")
    for name in ("b.png", "z.png"):
        cv2.imwrite(str(folder / name), picture(64, 128, (20, 10, 60, 50)))
    (folder / "y.jpg").touch()  # has an image id, but is skipped
    assert predict_folder(Predictor(FakeRun()), [folder], tmp_path / "out") == 1
    found = [(e["image_id"], e["file_name"], e.get("frame")) for e in entries_of(tmp_path / "out")]
    assert found == [
        (0, "b.png", None),
        (2, "z.png", None),
        *((3 + i, "a.avi", i) for i in range(3)),
        *((6 + i, "no suffix", i) for i in range(2)),
    ]
    assert numbers(capsys.readouterr().out.splitlines()[0], tmp_path) == ["2", "5", "7"]


def test_a_truncated_video_keeps_its_readable_frames(tmp_path, capsys):
    path = write_video(tmp_path / "film.avi")
    break_off(path)
    readable = len(read_video(path)[0])
    assert 0 < readable < 15
    assert predict_folder(Predictor(FakeRun()), [path], tmp_path / "out") == 1
    (line,) = capsys.readouterr().err.splitlines()
    check_names(line, path)
    check_names(numbers(line, tmp_path), readable, 20)
    frames, _ = read_video(tmp_path / "out/overlays/film.avi.mp4")
    assert len(frames) == len(entries_of(tmp_path / "out")) == readable


def test_the_fault_of_a_finished_video_is_reported_again_when_resumed(tmp_path, capsys):
    path = write_video(tmp_path / "film.avi")
    break_off(path)
    other = write_video(tmp_path / "other.avi")

    predictor = Predictor(FakeRun())
    stopping = predictor.predict_frames
    calls = []

    def frames(images):
        calls.append(1)
        if len(calls) > 1:
            raise RuntimeError("stopped")
        return stopping(images)

    predictor.predict_frames = frames
    with pytest.raises(RuntimeError, match="stopped"):
        predict_folder(predictor, [path, other], tmp_path / "out")
    first, *_ = capsys.readouterr().err.splitlines()
    resumed = OutputOptions(resume=True)
    assert predict_folder(Predictor(FakeRun()), [path, other], tmp_path / "out", resumed) == 1
    assert first in capsys.readouterr().err


def test_a_header_that_counts_an_extra_second_is_accepted(tmp_path):
    film = video.Video(write_video(tmp_path / "film.mp4", frames=50))
    assert not film.breaks_off(50)
    assert not film.breaks_off(46)
    assert film.breaks_off(44)
    film.count = 0  # a header without a frame count
    assert not film.breaks_off(1)


def test_an_invalid_video_is_skipped(tmp_path, capfd):
    (tmp_path / "film.mp4").write_bytes(b"no video" * 100)
    write_video(tmp_path / "cut.mp4")
    data = (tmp_path / "cut.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    assert predict_folder(Predictor(FakeRun()), [tmp_path], tmp_path / "out") == 2
    printed = capfd.readouterr().err.splitlines()
    check_faults(printed, (tmp_path / "cut.mp4",), (tmp_path / "film.mp4",), ())
    assert not (tmp_path / "out").exists()


def test_an_odd_size_is_kept(tmp_path, capsys):
    path = tmp_path / "film.avi"
    write_video(path, 5, 61, 99, 10, cv2.CAP_OPENCV_MJPEG)
    assert predict_folder(Predictor(FakeRun()), [path], tmp_path / "out") == 0
    frames, fps = read_video(tmp_path / "out/overlays/film.avi.avi")
    assert frames.shape == (5, 61, 99, 3)
    assert fps == 10
    assert capsys.readouterr().err == ""
    with video.VideoWriter(tmp_path / "out/odd", 23.976) as writer:
        writer.write(np.zeros((61, 99, 3), np.uint8))
    assert read_video(tmp_path / "out/odd.avi")[1] == writer.fps == 24


# MP4 does not support the last rate.
@pytest.mark.parametrize("fps", [23.976, 29.97, 60.0, 0.5, 89.1234])
def test_the_rate_is_kept(tmp_path, fps):
    with video.VideoWriter(tmp_path / "film", fps) as writer:
        for _ in range(3):
            writer.write(np.zeros((32, 48, 3), np.uint8))
    frames, read = read_video(writer.path)
    assert len(frames) == 3
    assert abs(read - fps) < 0.001
    assert list(tmp_path.iterdir()) == [writer.path]


def test_motion_jpeg_where_mp4_cannot_be_written(tmp_path, monkeypatch):
    real = cv2.VideoWriter

    def without_mp4(path, *rest):
        return real(path.replace(".mp4", ".none"), *rest)

    without_mp4.fourcc = real.fourcc
    monkeypatch.setattr(cv2, "VideoWriter", without_mp4)
    with video.VideoWriter(tmp_path / "film", 10.0) as writer:
        writer.write(np.zeros((32, 48, 3), np.uint8))
    assert [path.name for path in tmp_path.iterdir()] == ["film.avi"]


@pytest.mark.parametrize(
    ("fault", "named"),
    [(KeyError, "stopped"), (UserError, "film.mp4")],
)
def test_no_partial_video_is_left(tmp_path, fault, named):
    def write():
        with video.VideoWriter(tmp_path / "film", 10.0) as writer:
            writer.write(np.zeros((32, 48, 3), np.uint8))
            writer.write(np.zeros((16, 16, 3), np.uint8))  # OpenCV drops it
            if fault is KeyError:
                raise KeyError("stopped")

    with refused(named, error=fault):
        write()
    assert not list(tmp_path.iterdir())


def test_a_rotated_video_of_a_phone_is_upright(tmp_path):
    path = write_video(tmp_path / "film.mp4", frames=3)
    turn(path)
    assert predict_folder(Predictor(FakeRun()), [path], tmp_path / "out") == 0
    frames, _ = read_video(tmp_path / "out/overlays/film.mp4.mp4")
    assert frames.shape == (3, 128, 64, 3)
    x1, y1, x2, y2 = box_of(0)  # 90 degrees clockwise: the left side is up
    found = entries_of(tmp_path / "out")[0]["bbox"]
    np.testing.assert_allclose(found, [64 - y2, x1, y2 - y1, x2 - x1], atol=2)


def test_frames_of_a_variable_rate_have_their_own_times(tmp_path, monkeypatch):
    with video.VideoWriter(tmp_path / "film", 25.0) as writer:
        for _ in range(6):
            writer.write(np.zeros((32, 32, 3), np.uint8))

    capture = cv2.VideoCapture(str(writer.path))

    class Capture:
        """A phone's video: slower in the dark, the times of the last frames unknown."""

        positions = iter([0.0, 40.0, 160.0, 280.0, 0.0, 0.0])
        isOpened, set = capture.isOpened, capture.set
        read, release = capture.read, capture.release

        def get(self, number):
            position = number == cv2.CAP_PROP_POS_MSEC
            return next(self.positions) if position else capture.get(number)

    monkeypatch.setattr(cv2, "VideoCapture", lambda _: Capture())
    film = video.Video(writer.path)
    assert len(list(film.frames(Times()))) == 6
    times = [film.time_of(i) for i in range(6)]
    np.testing.assert_allclose(times, [0, 0.04, 0.16, 0.28, 0.32, 0.36])


def test_panels_of_a_video_are_three_wide(tmp_path):
    path = write_video(tmp_path / "film.mp4", frames=3)
    options = OutputOptions(style="panels")
    assert predict_folder(Predictor(FakeRun()), [path], tmp_path / "out", options) == 0
    assert read_video(tmp_path / "out/overlays/film.mp4.mp4")[0].shape == (3, 64, 3 * 128, 3)


def test_a_model_of_other_channels_skips_a_video(tmp_path, capsys):
    path = write_video(tmp_path / "film.mp4")
    assert predict_folder(Predictor(FakeRun(channels=5)), [path], tmp_path / "out") == 2
    printed = capsys.readouterr().err
    check_names(printed, path)
    check_names(numbers(printed, path), 3, 5)


def test_frames_of_several_sizes_keep_their_order():
    sizes = [(64, 128), (64, 128), (64, 128), (128, 128), (64, 128), (128, 128), (128, 128)]
    frames = [picture(*size, (5 + i, 10, 45, 50)) for i, size in enumerate(sizes)]
    run = FakeRun(batch_size=2)
    results = list(Predictor(run).predict_frames(frames))
    assert [(r.height, r.width) for r in results] == sizes
    np.testing.assert_allclose([r.boxes[0, 0] for r in results], 5 + np.arange(7))
    assert [int(batch.valid.sum()) for batch in run.batches] == [2, 1, 1, 1, 2]
    with refused("5 float64", error=ValueError):
        list(Predictor(run).predict_frames([np.zeros(5)]))


def test_only_a_few_frames_are_in_memory(tmp_path):
    asked = []

    def endless():
        while True:
            asked.append(len(asked))
            yield picture(64, 128, (20, 10, 60, 50))

    stream = Predictor(FakeRun(batch_size=4)).predict_frames(endless())
    for _ in range(9):
        next(stream)
    assert len(asked) <= 13
    film = video.Video(write_video(tmp_path / "film.mp4", frames=60))
    times = Times()
    frames = film.frames(times)
    assert next(frames).shape == (64, 128, 3)
    frames.close()  # the thread ends with it
    assert times.seconds["decode"] > 0
