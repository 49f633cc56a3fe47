"""BIWI's Kinect head poses: frames with the head's rotation matrix and place beside them.

Source: Fanelli, Dantone, Gall, Fossati, Van Gool, Random forests for real time 3D face analysis,
IJCV 2013, https://icu.ee.ethz.ch/research/datsets.html. Folders 01 to 24 hold
`frame_NNNNN_rgb.png`, `frame_NNNNN_pose.txt` (the matrix that turns a head that faces the camera,
then the head's centre in mm; x right, y down, z away from the depth camera) and `rgb.cal` (the
colour camera's matrix, distortion, and the rotation and translation that lead to it).
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

HEAD = (180.0, 240.0)  # mm, width and height of the box about the centre: a head with its hair
_FRAME = re.compile(r"(frame_\d+)_rgb\.(png|jpg)")
_SAME = {"15": "03", "18": "05", "21": "02", "22": "07"}  # four of the twenty were recorded twice
_ORTHOGONAL = 1e-3  # what the product with its transpose may differ from unity: six digits stand


class _Camera(NamedTuple):
    matrix: np.ndarray  # [3, 3]
    turn: np.ndarray  # [3, 3], and
    shift: np.ndarray  # [3] mm: from the depth camera's axes to this one's


class _Frame(NamedTuple):
    size: Size
    box: Box
    pose: dict[str, float]


def read_biwi(folder: Path) -> CocoLists:
    """Read the frames below a folder, one head each; a person's frames stay together.

    Label: `head`, a pose (`angles`). The box is the centre's, a head of HEAD mm seen from where the
    colour camera is.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    frames = sorted(path for path in folder.rglob("frame_*_rgb.*") if _FRAME.fullmatch(path.name))
    if not frames:
        raise UserError(f"{folder}: holds no frame_NNNNN_rgb.png; expected BIWI's folders 01 to 24")
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
        collector.add_picture(name, *frame.size, group=f"person{person}")
        collector.add_thing(name, name, "head", {"bbox": as_bbox(frame.box)}, {"head": frame.pose})
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
    """Give the degrees of a head's rotation `[3, 3]` (axes as above): it rolls, turns, nods.

    That order and the depth camera's axes are those of the published figures, and the order is
    300W-LP's.
    """
    # The nose points along -z at first; a turned column is where an axis of the head points now.
    return {
        "yaw": float(np.degrees(np.arcsin(np.clip(turn[0, 2], -1, 1)))),
        "pitch": float(np.degrees(np.arctan2(turn[1, 2], turn[2, 2]))),
        "roll": float(np.degrees(np.arctan2(-turn[0, 1], turn[0, 0]))),
    }


def check_rotation(turn: np.ndarray, what: str) -> None:
    """Raise ValueError where a matrix `[3, 3]` is no rotation."""
    far = np.abs(turn @ turn.T - np.eye(3)).max()
    if not far <= _ORTHOGONAL:  # NaN is not
        raise ValueError(f"{what} is not orthogonal (by {far:.2g}); correct or remove it")
    if np.linalg.det(turn) < 0:
        raise ValueError(f"{what} mirrors; correct or remove it")


def read_camera(path: Path) -> _Camera:
    """Read `rgb.cal`. Raises ValueError that says what is wrong."""
    rows = _read_rows(path, (3, 3, 3, None, 3, 3, 3, 3))
    matrix, turn = np.array(rows[:3]), np.array(rows[4:7])
    if not (matrix.diagonal() > 0).all() or matrix[2].tolist() != [0, 0, 1]:
        raise ValueError("its first three rows are no camera's matrix")
    check_rotation(turn, "its rotation")
    return _Camera(matrix, turn, np.array(rows[7]))


def _read_rows(path: Path, lengths: tuple[int | None, ...]) -> list[Any]:
    """Read the first rows of numbers of a text, of which each must have so many."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ValueError(f"{path.name} cannot be read ({error.strerror})") from None
    lines = [line.split() for line in text.splitlines() if line.strip()]
    try:
        rows = [[float(word) for word in line] for line in lines]
    except ValueError as error:
        raise ValueError(f"{path.name} holds what is no number ({error})") from None
    good = len(rows) >= len(lengths) and all(
        n is None or len(row) == n for row, n in zip(rows, lengths, strict=False)
    )
    if not good or not all(np.isfinite(row).all() for row in rows):
        wanted = len(lengths)
        raise ValueError(f"{path.name} is cut off or no {wanted} rows of finite numbers")
    return rows


FORMAT = Format(
    coco_opener(read_biwi),
    {},
    ("biwi", "hpdb", "kinect_head_pose_db/hpdb", "kinect_head_pose_db"),
    "https://icu.ee.ethz.ch/research/datsets.html, the Biwi Kinect Head Pose Database "
    "(research and education)",
    "the pose of 20 volunteers as a program found it in depth pictures",
)
