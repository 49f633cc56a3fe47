"""Small videos, written frame by frame."""

import struct
from pathlib import Path

import cv2
import numpy as np
from inference.fake_run import picture

FPS = 12.5


def box_of(frame: int) -> tuple[int, int, int, int]:
    """Return the box of the bright rectangle in a frame; it moves to the right."""
    return 10 + 2 * frame, 10, 40 + 2 * frame, 50


def write_video(path: Path, frames=20, height=64, width=128, fps=FPS, backend=cv2.CAP_ANY) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    codec = "mp4v" if path.suffix == ".mp4" else "MJPG"
    code = cv2.VideoWriter.fourcc(*codec)
    writer = cv2.VideoWriter(str(path), backend, code, fps, (width, height))
    assert writer.isOpened()
    for i in range(frames):
        writer.write(picture(height, width, box_of(i)))
    writer.release()
    return path


def read_video(path: Path) -> tuple[np.ndarray, float]:
    """Return the frames, BGR `[T, H, W, 3]`, and the frame rate."""
    capture = cv2.VideoCapture(str(path))
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1])
    return np.stack(frames), capture.get(cv2.CAP_PROP_FPS)


def break_off(path: Path) -> None:
    """Overwrite the middle of a Motion JPEG, so that its frames from there on cannot be read."""
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = bytes(3000)
    path.write_bytes(data)


def turn(path: Path) -> None:
    """Mark an MP4 to be displayed rotated by 90 degrees, as phones do."""
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 44
    one = 1 << 16
    data[matrix : matrix + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
