"""Read BIWI's Kinect head poses: frames with the head's rotation matrix and position beside them.

Source: Fanelli, Dantone, Gall, Fossati, Van Gool, Random forests for real time 3D face analysis,
IJCV 2013, https://icu.ee.ethz.ch/research/datsets.html. Folders 01 to 24 contain
`frame_NNNNN_rgb.png`, `frame_NNNNN_pose.txt` (the matrix that rotates a head that faces the camera,
then the head's centre in mm; x right, y down, z away from the depth camera) and `rgb.cal` (the
matrix and distortion of the colour camera, and the rotation and translation to its axes).
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mtl_jax.data.face_points import as_bbox, clip
from mtl_jax.data.readers.annotation_tools.coco import coco_opener
from mtl_jax.data.readers.coco_lists import CocoLists, Collector, read_each
from mtl_jax.data.readers.format import Format
from mtl_jax.data.records import Box
from mtl_jax.errors import UserError
from mtl_jax.images.decode import image_size
from mtl_jax.images.geometry import Size
from mtl_jax.io.regular import read_regular

HEAD = (180.0, 240.0)  # mm, width and height of the box around the centre: a head with its hair
_FRAME = re.compile(r"(frame_\d+)_rgb\.(png|jpg)")
_SAME = {"15": "03", "18": "05", "21": "02", "22": "07"}  # persons recorded twice
_ORTHOGONAL = 1e-3  # tolerance of the product with the transpose; the files have six digits


class _Camera(NamedTuple):
    matrix: np.ndarray  # [3, 3]
    turn: np.ndarray  # [3, 3], rotation from the axes of the depth camera to those of this one
    shift: np.ndarray  # [3] in mm, the translation after it


class _Frame(NamedTuple):
    size: Size
    box: Box
    pose: dict[str, float]


def read_biwi(folder: Path) -> CocoLists:
    """Read the frames below a folder, with one head each. The frames of a person stay in one split.

    Label: `head`, a pose (see `angles`). The box is a head of HEAD mm around the head's centre, as
    seen by the colour camera. Raises UserError if the folder has no frames.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    frames = sorted(path for path in folder.rglob("frame_*_rgb.*") if _FRAME.fullmatch(path.name))
    if not frames:
        raise UserError(f"{folder}: has no frame_NNNNN_rgb.png; expected BIWI's folders 01 to 24")
    collector = Collector(folder)
    cameras: dict[Path, _Camera | None] = {}
    for parent in dict.fromkeys(path.parent for path in frames):
        path = parent / "rgb.cal"
        try:
            cameras[parent] = read_camera(path)
        except ValueError as error:
            cameras[parent] = None
            collector.add_fault(path.relative_to(folder).as_posix(), str(error))
    frames = [path for path in frames if cameras[path.parent] is not None]

    def read(path: Path) -> _Frame:
        camera = cameras[path.parent]
        assert camera is not None
        return _read_frame(path, camera)

    for path, frame in read_each(read, frames):
        name = path.relative_to(folder).as_posix()
        if isinstance(frame, ValueError):
            collector.add_fault(name, str(frame))
            continue
        person = _SAME.get(path.parent.name, path.parent.name)
        collector.add_image(name, *frame.size, group=f"person{person}")
        collector.add_instance(
            name, name, "head", {"bbox": as_bbox(frame.box)}, {"head": frame.pose}
        )
    return collector.finish(("head",))


def _read_frame(path: Path, camera: _Camera) -> _Frame:
    height, width = image_size(path)
    match = _FRAME.fullmatch(path.name)
    assert match is not None
    rows = _read_rows(path.with_name(f"{match[1]}_pose.txt"), (3, 3, 3, 3))
    turn, center = np.array(rows[:3]), np.array(rows[3])
    check_rotation(turn, "its matrix")
    x, y, z = (camera.turn @ center + camera.shift).tolist()
    if not z > 0:
        raise ValueError(f"the head's centre ({x:.6g}, {y:.6g}, {z:.6g}) is behind the camera")
    u, v = (camera.matrix @ (x, y, z))[:2] / z
    half = camera.matrix.diagonal()[:2] * HEAD / (2 * z)
    box = clip((u - half[0], v - half[1], u + half[0], v + half[1]), width, height)
    return _Frame((height, width), box, angles(turn))


def angles(turn: np.ndarray) -> dict[str, float]:
    """Return yaw, pitch and roll in degrees of a head's rotation `[3, 3]`, with the axes above. The
    rotations are applied in the order roll, yaw, pitch.

    The published figures use this order and the axes of the depth camera; 300W-LP uses the same
    order.
    """
    # The nose initially points along -z. A column of `turn` is the rotated axis of the head.
    return {
        "yaw": float(np.degrees(np.arcsin(np.clip(turn[0, 2], -1, 1)))),
        "pitch": float(np.degrees(np.arctan2(turn[1, 2], turn[2, 2]))),
        "roll": float(np.degrees(np.arctan2(-turn[0, 1], turn[0, 0]))),
    }


def check_rotation(turn: np.ndarray, what: str) -> None:
    """Raise ValueError, which begins with `what`, if a matrix `[3, 3]` is not a rotation."""
    far = np.abs(turn @ turn.T - np.eye(3)).max()
    if not far <= _ORTHOGONAL:  # also refuses NaN
        raise ValueError(f"{what} is not orthogonal (by {far:.2g}); correct or remove it")
    if np.linalg.det(turn) < 0:
        raise ValueError(f"{what} is a reflection; correct or remove it")


def read_camera(path: Path) -> _Camera:
    """Read `rgb.cal`. Raises ValueError if it is invalid."""
    rows = _read_rows(path, (3, 3, 3, None, 3, 3, 3, 3))
    matrix, turn = np.array(rows[:3]), np.array(rows[4:7])
    if not (matrix.diagonal() > 0).all() or matrix[2].tolist() != [0, 0, 1]:
        raise ValueError("its first three rows must be a camera matrix")
    check_rotation(turn, "its rotation")
    return _Camera(matrix, turn, np.array(rows[7]))


def _read_rows(path: Path, lengths: tuple[int | None, ...]) -> list[Any]:
    """Read the first rows of numbers in a text file. Each must have the length in `lengths`, or any
    length if that is None.
    """
    try:
        text = read_regular(path).decode("utf-8", "replace")
    except OSError as error:
        raise ValueError(f"{path.name} cannot be read ({error.strerror})") from None
    lines = [line.split() for line in text.splitlines() if line.strip()]
    try:
        rows = [[float(word) for word in line] for line in lines]
    except ValueError as error:
        raise ValueError(f"{path.name} must contain only numbers ({error})") from None
    good = len(rows) >= len(lengths) and all(
        n is None or len(row) == n for row, n in zip(rows, lengths, strict=False)
    )
    if not good or not all(np.isfinite(row).all() for row in rows):
        count = len(lengths)
        raise ValueError(f"{path.name} must begin with {count} rows of finite numbers; replace it")
    return rows


FORMAT = Format(
    coco_opener(read_biwi),
    {},
    ("biwi", "hpdb", "kinect_head_pose_db/hpdb", "kinect_head_pose_db"),
    "https://icu.ee.ethz.ch/research/datsets.html, the Biwi Kinect Head Pose Database "
    "(research and education)",
    "the pose of 20 volunteers, estimated by a program from depth images",
)
