"""Read frames of YouTube Faces with iBUG's 68 points from a table: name, x0, y0 .. x67, y67.

Source: https://github.com/udacity/P1_Facial_Keypoints (MIT; the frames for research), from Wolf,
Hassner, Maoz, Face recognition in unconstrained videos, CVPR 2011. Points are pixel indices from 0,
found by the network of Bulat and Tzimiropoulos, ICCV 2017, whose code truncates them to integers,
so that index k lies at k + 0.5. The box is `face_points.face_box`. Visibility is not annotated.
"""

import csv
import io
import re
from pathlib import Path

import numpy as np

from mtl_jax.data.face_points import IBUG, as_bbox, face_box, from_ibug
from mtl_jax.data.readers.annotation_tools.coco import coco_source
from mtl_jax.data.readers.coco_lists import CocoLists, Collector
from mtl_jax.data.readers.format import Block, Format, Labels, find_annotations, find_images
from mtl_jax.data.readers.image_files import Found, Named
from mtl_jax.data.records import Source
from mtl_jax.errors import UserError
from mtl_jax.images.decode import image_size
from mtl_jax.images.geometry import pixel_centres
from mtl_jax.io.regular import open_regular

_FRAME = re.compile(r"_\d+\.\w+$")  # Abdullah_Gul_50.jpg is a frame of Abdullah_Gul


def read_youtube_faces(table: Path, folder: Path) -> CocoLists:
    """Read a table of frames that lie in `folder`. The frames of a person stay in one split.

    Other faces in a frame are not annotated.
    """
    collector = Collector(table)
    try:
        with open_regular(table) as raw, io.TextIOWrapper(raw, "utf-8-sig", newline="") as file:
            # The first column of the header has no name in some copies.
            rows = {
                number: row
                for number, row in enumerate(csv.reader(file), 1)
                if row and row[0] not in ("", "name")
            }
    except OSError as error:
        raise UserError(f"{table}: cannot be read ({error.strerror})") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{table}: is not a CSV table ({error}); download it again") from None
    files = collector.find_images(folder, [Named(row[0]) for row in rows.values()])
    for file, (number, row) in zip(files, rows.items(), strict=True):
        _add(collector, f"line {number} ({row[0][:80]})", file, row, folder)
    return collector.finish(("face",), exhaustive=False)


def _add(collector: Collector, record: str, file: Found, row: list[str], folder: Path) -> None:
    name = file.path
    try:
        if file.fault:
            raise ValueError(file.fault)
        points = _read_points(row[1:])
        height, width = image_size(folder / name)
        box = face_box(points, width, height)
    except OSError as error:
        collector.add_fault(record, f"the image cannot be read ({error.strerror}); add it")
    except ValueError as error:
        collector.add_fault(record, str(error))
    else:
        person = _FRAME.sub("", name.rpartition("/")[2])
        if collector.add_image(name, height, width, group=person):
            bbox = {"bbox": as_bbox(box)}
            collector.add_instance(name, record, "face", bbox, {"face": from_ibug(points)})


def _read_points(cells: list[str]) -> np.ndarray:
    if len(cells) != 2 * IBUG:
        raise ValueError(f"has {len(cells) / 2:g} points, expected iBUG's {IBUG}")
    try:
        return pixel_centres(np.array(cells, float).reshape(IBUG, 2), first=0)
    except ValueError as error:
        raise ValueError(f"a coordinate is not a number ({error})") from None


def open_youtube_faces(folder: Path, block: Block, labels: Labels) -> Source:
    table = find_annotations(folder, block["annotations"], (".csv",))
    images = find_images(folder, table, block["images"])
    return coco_source(read_youtube_faces(table, images), images, block, labels, "group")


FORMAT = Format(
    open_youtube_faces,
    {"annotations": "", "images": ""},
    ("youtube_faces", "ytfaces68_udacity"),
    "https://github.com/udacity/P1_Facial_Keypoints (MIT, the frames for research)",
)
