"""Videos in and out, by OpenCV: frames in order, a few of them in memory."""

import os
import re
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

from mtl_jax.errors import UserError
from mtl_jax.inference.times import Times
from mtl_jax.io.atomic import draft_of

# Read when FFmpeg is first used. What is wrong with a video is said here, in one line.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

AHEAD = 8  # frames that are decoded before they are asked for
USUAL_FPS = 25.0  # of a file that does not say
NOT_IN_TEXT = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")  # control characters but spaces, ESC


def is_video(path: Path) -> bool:
    """Say whether OpenCV opens a file as a video, and it is no text: those it plays as drawings."""
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError:
        return False
    if not NOT_IN_TEXT.search(head):
        return False
    capture = cv2.VideoCapture(str(path))
    opened = capture.isOpened()
    capture.release()
    return opened


class Video:
    """A video's frames and what its head says. Raises ValueError where OpenCV cannot open it."""

    def __init__(self, path: Path):
        self._capture = cv2.VideoCapture(str(path))
        if not self._capture.isOpened():
            raise ValueError("not a video that OpenCV can decode")
        self._capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)  # OpenCV 4.11 alone does not by itself
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps < 1000 else USUAL_FPS
        self.count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))  # 0 or less: not known
        self._size: tuple[int, int] | None = None
        self._seconds: list[float] = []  # when each frame that was read is shown

    def frames(self, times: Times) -> Iterator[np.ndarray]:
        """Give the frames, RGB `[H, W, 3]` as displayed, all of the first one's size; a thread
        decodes ahead.
        """
        try:
            with ThreadPoolExecutor(1) as decoder:
                pending = deque(decoder.submit(self._next, times) for _ in range(AHEAD))
                while (frame := pending.popleft().result()) is not None:
                    pending.append(decoder.submit(self._next, times))
                    yield frame
        finally:
            self._capture.release()

    def time_of(self, frame: int) -> float:
        """Give when a frame that was read is shown, in seconds; telephones' rates vary."""
        return self._seconds[frame]

    def breaks_off(self, read: int) -> bool:
        """Say whether `read` frames are far fewer than the head counts.

        Where it counts by time alone, it counts up to where the sound ends.
        """
        return read < self.count - max(1.0, min(self.fps, self.count / 10))

    def _next(self, times: Times) -> np.ndarray | None:
        with times.measure("decode"):
            try:
                done, frame = self._capture.read()
            except cv2.error:
                return None
            if not done:
                return None
            seconds = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            if self._seconds and seconds <= self._seconds[-1]:  # not known of every container
                seconds = self._seconds[-1] + 1 / self.fps
            self._seconds.append(seconds)
            height, width = frame.shape[:2]
            self._size = self._size or (width, height)
            if self._size != (width, height):
                frame = cv2.resize(frame, self._size, interpolation=cv2.INTER_AREA)
            return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)


class VideoWriter:
    """Writes RGB frames of one size to `stem` with .mp4 behind it, or .avi where OpenCV's mp4 does
    not do: without its codec, and for an odd width or height, of which it would cut a pixel.

    To be used in a `with`. At its end the file is put in place as `path`; after an error, or
    without a frame, there is none. It plays at `fps`: as it was asked for, but for an odd size,
    where OpenCV counts whole frames a second. Raises UserError where no video can be written.
    """

    def __init__(self, stem: Path, fps: float):
        self._stem = stem
        self.fps = fps
        self._writer: cv2.VideoWriter | None = None
        self._partial = self.path = stem
        self._count = 0

    def __enter__(self) -> "VideoWriter":
        return self

    def write(self, frame: np.ndarray) -> None:
        if self._writer is None:
            self._writer = self._open(*frame.shape[:2])
        self._writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        self._count += 1

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        if self._writer is None:
            return
        self._writer.release()
        try:
            if kind is None:
                self._check()
                self._partial.replace(self.path)
        finally:
            self._partial.unlink(missing_ok=True)

    def _open(self, height: int, width: int) -> cv2.VideoWriter:
        self._stem.parent.mkdir(parents=True, exist_ok=True)
        formats = [(".mp4", cv2.CAP_ANY, "mp4v"), (".avi", cv2.CAP_ANY, "MJPG")]
        if height % 2 or width % 2:  # FFmpeg's writers would cut a pixel off, OpenCV's own does not
            formats = [(".avi", cv2.CAP_OPENCV_MJPEG, "MJPG")]
            self.fps = max(1.0, round(self.fps))
        for suffix, backend, codec in formats:
            self.path = self._stem.with_name(self._stem.name + suffix)
            self._partial = draft_of(self.path)
            code = cv2.VideoWriter.fourcc(*codec)
            writer = cv2.VideoWriter(str(self._partial), backend, code, self.fps, (width, height))
            if writer.isOpened():
                return writer
            self._partial.unlink(missing_ok=True)
        raise UserError(f"{self.path}: OpenCV can write neither mp4 nor Motion JPEG here")

    def _check(self) -> None:
        """Raise UserError where the file does not hold every frame: OpenCV does not tell."""
        capture = cv2.VideoCapture(str(self._partial))
        if int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) != self._count:
            raise UserError(f"{self.path}: could not be written to its end; is the disk full?")
        capture.release()
