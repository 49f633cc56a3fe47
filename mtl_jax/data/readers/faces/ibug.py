"""Read HELEN, AFW, LFPW, IBUG and 300W with iBUG's annotations: 68 points of a face in the `.pts`
file beside its image.

Source: Sagonas et al., 300 Faces in-the-Wild Challenge, ICCVW 2013, https://ibug.doc.ic.ac.uk.
Points are x, y in MATLAB's pixel indices: "the coordinates of the top left pixel in an image are
x=1, y=1" (the challenge's page). The box is `face_points.face_box`. Visibility is not annotated.
"""

import hashlib
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mtl_jax.data.face_points import IBUG, as_bbox, face_box, from_ibug
from mtl_jax.data.readers.annotation_tools.coco import coco_opener
from mtl_jax.data.readers.coco_lists import CocoLists, Collector, find_files, read_each
from mtl_jax.data.readers.folders import EXTENSIONS
from mtl_jax.data.readers.format import Format
from mtl_jax.data.records import Box
from mtl_jax.images.decode import image_size
from mtl_jax.images.geometry import Size, pixel_centres
from mtl_jax.io.regular import read_regular

# The faces of a photograph are numbered from 1, as in 2911658494_2. The numbers of indoor_001 and
# image_0017 are those of photographs.
_FACE = re.compile(r"[ _]+0?[1-9]$|_[1-9]\d$")


class _Face(NamedTuple):
    image: Path
    size: Size  # height, width
    box: Box
    points: np.ndarray  # [68, 2]


def read_pts(folder: Path) -> CocoLists:
    """Read every `.pts` file below a folder.

    Faces of one photograph stay in one split. If each has a copy of the photograph (AFW), the first
    copy becomes one image with all of them. Other faces of an image are not annotated.
    """
    collector = Collector(folder)
    paths = find_files(folder, ".pts")
    photos = [(path.parent / _FACE.sub("", path.stem)).relative_to(folder) for path in paths]
    faces = Counter(photos)
    copies: dict[tuple[Path, str], str] = {}  # photograph and content -> the image added
    for (path, face), photo in zip(read_each(_read_face, paths), photos, strict=True):
        record = path.relative_to(folder).as_posix()
        if isinstance(face, ValueError):
            collector.add_fault(record, str(face))
            continue
        name = face.image.relative_to(folder).as_posix()
        content = _digest(face.image) if faces[photo] > 1 else name
        first = copies.setdefault((photo, content), name)
        if first == name:
            collector.add_image(name, *face.size, group=photo.as_posix())
        bbox = {"bbox": as_bbox(face.box)}
        collector.add_instance(first, record, "face", bbox, {"face": from_ibug(face.points)})
    return collector.finish(("face",), exhaustive=False)


def _read_face(path: Path) -> _Face:
    points = read_points(path)
    beside = [path.with_suffix(s) for suffix in EXTENSIONS for s in (suffix, suffix.upper())]
    image = next((each for each in beside if each.is_file()), None)
    if image is None:
        raise ValueError(f"has no image {path.stem}.jpg or .png beside it; add the image")
    height, width = image_size(image)
    return _Face(image, (height, width), face_box(points, width, height), points)


def read_points(path: Path) -> np.ndarray:
    """Read iBUG's points `[68, 2]`, with or without `version`, `n_points` and braces. A point at
    index k lies at k - 0.5.

    Raises ValueError if the file is invalid.
    """
    text = read_regular(path).decode("utf-8", "replace")
    if "{" in text:
        text, closed, _ = text.partition("{")[2].partition("}")
        if not closed:
            raise ValueError("truncated: its brace is not closed; download it again")
    rows = [line.split() for line in text.splitlines() if line.strip()]
    if len(rows) != IBUG:
        raise ValueError(f"has {len(rows)} points, expected iBUG's {IBUG}")
    for number, row in enumerate(rows):
        if len(row) != 2:
            raise ValueError(f"point {number} must be x and y, got {' '.join(row)[:40]!r}")
    try:
        return pixel_centres(np.array(rows, float), first=1)
    except ValueError as error:
        raise ValueError(f"a point must be two numbers ({error})") from None


def _digest(path: Path) -> str:
    return hashlib.sha256(read_regular(path)).hexdigest()


FORMAT = Format(
    coco_opener(read_pts),
    {},
    ("ibug", "300W", "helen", "afw", "helen_afw_68"),
    "https://ibug.doc.ic.ac.uk/resources/facial-point-annotations, HELEN, AFW, LFPW, IBUG or "
    "300W (research)",
)
