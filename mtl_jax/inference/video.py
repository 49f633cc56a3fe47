"""Video input and output with OpenCV: frames in order, with only a few in memory."""

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
from mtl_jax.io.atomic import draft_of, fit_name

# FFmpeg reads this at its first use. Its own log is silenced: errors are reported in one line.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

AHEAD = 8  # frames that are decoded in advance
USUAL_FPS = 25.0  # of a file that does not specify its rate
# Control characters that do not occur in text: all except white space and ESC.
NOT_IN_TEXT = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


def is_video(path: Path) -> bool:
    """Return whether OpenCV opens a file as a video. Text, which it can render, is excluded."""
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
    """Frames and metadata of a video. Raises ValueError if OpenCV cannot open it."""

    def __init__(self, path: Path):
        self._capture = cv2.VideoCapture(str(path))
        if not self._capture.isOpened():
            raise ValueError("not a video that OpenCV can decode")
        self._capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)  # off by default in OpenCV 4.11 only
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps < 1000 else USUAL_FPS
        self.count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))  # 0 or less: unknown
        self._size: tuple[int, int] | None = None
        self._seconds: list[float] = []  # display time of each frame read

    def frames(self, times: Times) -> Iterator[np.ndarray]:
        """Yield the frames, RGB uint8 `[H, W, 3]` as displayed, all in the size of the first.

        A thread decodes in advance.
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
        """Return the display time of a frame that was read, in seconds. Frame rates may vary."""
        return self._seconds[frame]

    def breaks_off(self, read: int) -> bool:
        """Return whether `read` frames are far fewer than the frame count of the file's header.

        A count that is derived from the duration also covers audio after the last frame.
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
            if self._seconds and seconds <= self._seconds[-1]:  # unknown in some containers
                seconds = self._seconds[-1] + 1 / self.fps
            self._seconds.append(seconds)
            height, width = frame.shape[:2]
            self._size = self._size or (width, height)
            if self._size != (width, height):
                frame = cv2.resize(frame, self._size, interpolation=cv2.INTER_AREA)
            return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)


class VideoWriter:
    """Writer of RGB frames of one size to `stem` with the suffix .mp4 or .avi.

    AVI is used if OpenCV has no codec for MP4, and for an odd width or height, where MP4 would drop
    a row or column of pixels.

    Use it as a context manager. On exit the file is moved into place as `path`. After an error, or
    without a frame, no file is written. `fps` is the requested frame rate, except for an odd size,
    where OpenCV supports only whole numbers. Raises UserError if no video can be written.
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
        if height % 2 or width % 2:  # FFmpeg's writers drop a pixel, OpenCV's own does not
            formats = [(".avi", cv2.CAP_OPENCV_MJPEG, "MJPG")]
            self.fps = max(1.0, round(self.fps))
        for suffix, backend, codec in formats:
            self.path = fit_name(self._stem.with_name(self._stem.name + suffix))
            self._partial = draft_of(self.path)
            code = cv2.VideoWriter.fourcc(*codec)
            writer = cv2.VideoWriter(str(self._partial), backend, code, self.fps, (width, height))
            if writer.isOpened():
                return writer
            self._partial.unlink(missing_ok=True)
        raise UserError(
            f"{self.path}: OpenCV cannot write this video as MP4 or Motion JPEG; check its codecs "
            "and the permissions of the folder"
        )

    def _check(self) -> None:
        """Raise UserError if the file misses frames, since OpenCV does not report write errors."""
        capture = cv2.VideoCapture(str(self._partial))
        frames = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        capture.release()
        if frames != self._count:
            raise UserError(f"{self.path}: the video is incomplete; check the free disk space")
