"""Read AFLW's SQLite database: boxes, 21 points with visibility, head pose and gender of faces.

Source: Koestinger, Wohlhart, Roth, Bischof, Annotated Facial Landmarks in the Wild, BeFIT 2011,
https://www.tugraz.at/institute/icg/research/team-bischof/lrs/downloads/aflw. A point that is not in
the database is hidden. Angles are in radians: yaw and pitch with the signs of this library, roll >
0 counter-clockwise in the image. As in AFLW's `splitRotationMatrixToRollPitchYaw`, the rotations
are applied in the order roll, pitch, yaw.

Faces without annotation count as background, as in the papers that train on AFLW. To change this,
set `exhaustive=False` in the source's block of the config.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mtl_jax.data.face_points import as_bbox, check_near, clip, degrees
from mtl_jax.data.readers.annotation_tools.coco import coco_source
from mtl_jax.data.readers.coco_lists import CocoLists, Collector
from mtl_jax.data.readers.format import Block, Format, Labels, find_subfolder
from mtl_jax.data.readers.image_files import Named
from mtl_jax.data.records import Source
from mtl_jax.errors import UserError
from mtl_jax.images.decode import image_size
from mtl_jax.images.geometry import Size

_TABLES = (
    "Faces",
    "FaceImages",
    "FaceRect",
    "FacePose",
    "FaceMetaData",
    "FeatureCoords",
    "FeatureCoordTypes",
)
# The names of vocabulary.LANDMARKS in FeatureCoordTypes, which has a few more that no face uses.
_NAMES = (
    *(
        f"{side}{organ}{part}"
        for organ in ("Brow", "Eye")
        for side in ("Left", "Right")
        for part in ("LeftCorner", "Center", "RightCorner")
    ),
    "LeftEar",
    "NoseLeft",
    "NoseCenter",
    "NoseRight",
    "RightEar",
    "MouthLeftCorner",
    "MouthCenter",
    "MouthRightCorner",
    "ChinCenter",
)
GENDERS = {"m": "male", "f": "female"}
_FACES = """
    SELECT Faces.face_id, FaceImages.filepath, FaceRect.x, FaceRect.y, FaceRect.w, FaceRect.h,
        FacePose.roll, FacePose.pitch, FacePose.yaw, FaceMetaData.sex
    FROM Faces JOIN FaceImages ON Faces.file_id = FaceImages.file_id
        LEFT JOIN FaceRect ON Faces.face_id = FaceRect.face_id
        LEFT JOIN FacePose ON Faces.face_id = FacePose.face_id
        LEFT JOIN FaceMetaData ON Faces.face_id = FaceMetaData.face_id
    GROUP BY Faces.face_id ORDER BY FaceImages.filepath, Faces.face_id
"""
_POINTS = """
    SELECT face_id, descr, FeatureCoords.x, FeatureCoords.y
    FROM FeatureCoords JOIN FeatureCoordTypes
        ON FeatureCoords.feature_id = FeatureCoordTypes.feature_id
"""


class _Row(NamedTuple):
    face_id: int
    image: str
    rect: tuple[Any, ...]  # x, y, w, h
    pose: tuple[Any, ...]  # roll, pitch, yaw
    sex: str | None


def read_aflw(database: Path, folder: Path) -> CocoLists:
    """Read `aflw.sqlite`, whose images lie in `folder`.

    Labels: `head`, a pose; `face`, the 21 points; `gender`, male or female. The few faces without
    a rectangle are faults. Raises UserError if the file is not AFLW's database.
    """
    rows, points = _read(database)
    collector = Collector(database)
    sizes: dict[str, Size] = {}
    named = [Named(name) for name in dict.fromkeys(row.image for row in rows)]
    files = dict(zip(named, collector.find_images(folder, named), strict=True))
    for row in rows:
        image, fault, _ = files[Named(row.image)]
        try:
            if fault:
                raise ValueError(fault)
            if image not in sizes:
                sizes[image] = _size(folder / image)
                collector.add_image(image, *sizes[image])
            bbox, labels = _face(row, points.get(row.face_id, {}), sizes[image])
        except ValueError as error:
            collector.add_fault(f"face {row.face_id} ({row.image})", str(error))
            continue
        collector.add_instance(image, f"face {row.face_id}", "face", {"bbox": bbox}, labels)
    return collector.finish(("face",))


def _size(path: Path) -> Size:
    try:
        return image_size(path)
    except OSError as error:
        raise ValueError(f"the image cannot be read ({error.strerror}); add it") from None


def _face(
    row: _Row, points: dict[str, tuple[float, float]], size: Size
) -> tuple[list[float], dict[str, Any]]:
    height, width = size
    if None in row.rect:
        raise ValueError("has no rectangle in FaceRect")
    x, y, w, h = (float(value) for value in row.rect)
    box = clip((x, y, x + w, y + h), width, height)
    labels: dict[str, Any] = {}
    if None not in row.pose:
        radians = np.array(row.pose, float)
        roll, pitch, yaw = degrees(radians, "roll, pitch, yaw")
        labels["head"] = {"yaw": yaw, "pitch": pitch, "roll": -roll}
    if points:
        check_near(np.array(list(points.values())), width, height)
        labels["face"] = [
            (*points[name], 2) if name in points else (None, None, 1) for name in _NAMES
        ]
    if row.sex:
        if row.sex not in GENDERS:
            raise ValueError(f"sex must be m or f, got {row.sex!r}")
        labels["gender"] = GENDERS[row.sex]
    return as_bbox(box), labels


def _read(database: Path) -> tuple[list[_Row], dict[int, dict[str, tuple[float, float]]]]:
    if not database.is_file():
        raise UserError(f"{database}: no such file; extract it from AFLW's aflw-db.tar.gz")
    try:
        address = f"{database.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(address, uri=True)) as connection:
            found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            tables = {name.lower() for (name,) in found}
            for table in _TABLES:
                if table.lower() not in tables:
                    raise UserError(
                        f"{database}: has no table {table}; download AFLW's database again"
                    )
            rows = [
                _Row(face, image, tuple(numbers[:4]), tuple(numbers[4:7]), numbers[7])
                for face, image, *numbers in connection.execute(_FACES)
            ]
            points: dict[int, dict[str, tuple[float, float]]] = {}
            for face, name, x, y in connection.execute(_POINTS):
                if (x, y) != (-1, -1):  # as AFLW's tools write an unknown point
                    points.setdefault(face, {})[name] = float(x), float(y)
    except (sqlite3.Error, TypeError, ValueError) as error:
        raise UserError(
            f"{database}: is not AFLW's database ({error}); download it again"
        ) from None
    names = dict.fromkeys(_NAMES)
    return rows, {
        face: {name: xy for name, xy in named.items() if name in names}
        for face, named in points.items()
    }


def open_aflw(folder: Path, block: Block, labels: Labels) -> Source:
    images = find_subfolder(folder, block["images"], ("flickr", "data/flickr"))
    name = block["annotations"] or "aflw.sqlite"
    path = next(
        (at for at in (folder / name, folder / "data" / name) if at.exists()), folder / name
    )
    return coco_source(read_aflw(path, images), images, block, labels)


FORMAT = Format(
    open_aflw,
    {"annotations": "", "images": ""},
    ("aflw", "AFLW"),
    "https://www.tugraz.at/institute/icg/research/team-bischof/lrs/downloads/aflw, "
    "aflw-db.tar.gz and the images (non-commercial research, on request)",
    "gender as perceived by an annotator",
)
