"""Read AFLW2000-3D and 300W-LP: head pose and points of a face in the `.mat` file beside its image.

Source: Zhu et al., Face alignment across large poses, CVPR 2016,
http://www.cbsr.ia.ac.cn/users/xiangyuzhu/projects/3DDFA/main.htm. `Pose_Para` begins with pitch,
yaw, roll in radians, with the signs of this library. The rotations are applied in the order roll,
yaw, pitch.

Points are in MATLAB's pixel indices, so that index k lies at k - 0.5: the authors' code converts y
by `height + 1 - y`. It was also applied to AFLW2000's hidden points, (-1, -1), which are stored as
(-1, 452) in images of 450 pixels.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mtl_jax.attributes.vocabulary import LANDMARKS
from mtl_jax.data.face_points import IBUG, Point, as_bbox, check_near, degrees, face_box, from_ibug
from mtl_jax.data.readers.annotation_tools.coco import coco_opener
from mtl_jax.data.readers.coco_lists import CocoLists, Collector, read_each
from mtl_jax.data.readers.folders import list_images
from mtl_jax.data.readers.format import Format
from mtl_jax.data.readers.safe_mat import read_mat
from mtl_jax.data.records import Box
from mtl_jax.errors import UserError
from mtl_jax.images.decode import image_size
from mtl_jax.images.geometry import Size, pixel_centres

_NAMES = ("Pose_Para", "pt2d", "pt3d_68")
# 300W-LP renders a photograph in other poses: AFW_134212_1_7 shows the first face of AFW_134212.
_TURNED = re.compile(r"((?:AFW|HELEN|IBUG)_.+)_\d+_\d+|(LFPW_.+)_\d+")


class _Face(NamedTuple):
    size: Size
    box: Box
    labels: dict[str, Any]


def read_mats(folder: Path) -> CocoLists:
    """Read every image below a folder, with one face each. The images of one photograph stay in one
    split.

    Labels: `head`, a pose, and `face`, AFLW's 21 points: those of AFLW2000 with visibility, or
    iBUG's 68 mapped to them. Other faces of an image are not annotated.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    # The folder Code of the data set contains its authors' code.
    names = [name for name in list_images(folder) if "Code" not in name.split("/")]
    if not names:
        raise UserError(f"{folder}: contains no images; expected images, each with a .mat file")
    collector = Collector(folder)
    found = read_each(_read_face, [folder / name for name in names])
    for name, (_, face) in zip(names, found, strict=True):
        if isinstance(face, ValueError):
            collector.add_fault(name, str(face))
            continue
        collector.add_image(name, *face.size, group=_photograph(name))
        collector.add_instance(name, name, "face", {"bbox": as_bbox(face.box)}, face.labels)
    return collector.finish(("face",), exhaustive=False)


def _photograph(name: str) -> str:
    stem = name.rpartition("/")[2].rpartition(".")[0]
    match = _TURNED.fullmatch(stem)
    return (match[1] or match[2]) if match else stem


def _read_face(path: Path) -> _Face:
    height, width = image_size(path)
    mat = _load(path.with_suffix(".mat"))
    pitch, yaw, roll = degrees(_array(mat, "Pose_Para").ravel()[:3], "Pose_Para")
    marked, ibug = _array(mat, "pt2d").T, _ibug(mat)
    face = _aflw(marked, width, height) if len(marked) == len(LANDMARKS) else None
    box = face_box(ibug, width, height)
    pose = {"yaw": yaw, "pitch": pitch, "roll": roll}
    return _Face((height, width), box, {"head": pose, "face": face or from_ibug(ibug)})


def read_ibug(path: Path) -> np.ndarray:
    """Read iBUG's points `[68, 2]` from a `.mat` file. Raises ValueError if it is invalid."""
    return _ibug(_load(path))


def _ibug(mat: dict[str, Any]) -> np.ndarray:
    points = _array(mat, "pt2d").T
    if points.shape == (len(LANDMARKS), 2):  # AFLW2000 has both
        points = _array(mat, "pt3d_68")[:2].T
    if points.shape != (IBUG, 2):
        raise ValueError(f"its .mat has {len(points)} points, expected iBUG's {IBUG}")
    return pixel_centres(points, first=1)


def _aflw(points: np.ndarray, width: int, height: int) -> list[Point | tuple[None, None, int]]:
    """Return AFLW's points `[21, 2]` with visibility. x of a hidden point is stored as -1."""
    seen = (points != -1).all(1)
    check_near(points[seen], width, height)
    points = pixel_centres(points, first=1)
    return [
        (x, y, 2) if visible else (None, None, 1)
        for (x, y), visible in zip(points.tolist(), seen, strict=True)
    ]


def _load(path: Path) -> dict[str, Any]:
    try:
        return read_mat(path, _NAMES)
    except FileNotFoundError:
        raise ValueError(f"has no {path.name} beside it; add the file") from None
    except ValueError as error:
        raise ValueError(f"its {path.name} is truncated or not a .mat file ({error})") from None


def _array(mat: dict[str, Any], name: str) -> np.ndarray:
    found = mat.get(name)
    if found is None:
        raise ValueError(f"its .mat has no {name}; it is truncated or of another data set")
    if found.ndim != 2 or found.size < 6:
        raise ValueError(f"{name} of its .mat must be a table of numbers")
    return found


_3DDFA = "http://www.cbsr.ia.ac.cn/users/xiangyuzhu/projects/3DDFA/main.htm"
AFLW2000 = Format(
    coco_opener(read_mats),
    {},
    ("aflw2000", "AFLW2000", "AFLW2000-3D", "aflw2000_prnet16"),
    f"{_3DDFA}, AFLW2000-3D (research)",
)
W300_LP = Format(
    coco_opener(read_mats), {}, ("300w_lp", "300W_LP"), f"{_3DDFA}, 300W-LP (research)"
)
