"""Read faces from COCO's person keypoints: nose, eyes and ears as five of AFLW's points.

Source: https://cocodataset.org/#keypoints-2017. Keypoints are pixel indices from 0, so that index k
lies at k + 0.5. The box of a face is not annotated. It is 1.2 times
as high as wide, and its centre is slightly below the middle of the labelled points. Its width is
the largest estimate from two labelled points: their distance in pixels, divided by their distance
in widths of a face. The latter is about the 90 % quantile over the faces of HELEN, AFW and
AFLW2000, boxed by `face_points.face_box`.
"""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtl_jax.attributes.vocabulary import LANDMARKS
from mtl_jax.data.face_points import Point, as_bbox, check_near, clip
from mtl_jax.data.readers.annotation_tools import coco_check
from mtl_jax.data.readers.annotation_tools.coco import coco_source
from mtl_jax.data.readers.coco_lists import CocoLists, fault_line
from mtl_jax.data.readers.format import Block, Format, Labels, find_annotations, find_images
from mtl_jax.data.records import Box, Source
from mtl_jax.errors import UserError
from mtl_jax.images.geometry import pixel_centres

# COCO's left is the person's; AFLW's is the image's, for a face seen from the front.
POINTS = {
    "nose": "nose_center",
    "left_eye": "right_eye_center",
    "right_eye": "left_eye_center",
    "left_ear": "right_ear",
    "right_ear": "left_ear",
}
_APART = {  # distances in widths of a face
    ("nose", "left_eye"): 0.42,
    ("nose", "right_eye"): 0.42,
    ("nose", "left_ear"): 0.75,
    ("nose", "right_ear"): 0.75,
    ("left_eye", "right_eye"): 0.48,
    ("left_eye", "left_ear"): 0.5,
    ("left_eye", "right_ear"): 0.84,
    ("right_eye", "left_ear"): 0.84,
    ("right_eye", "right_ear"): 0.5,
    ("left_ear", "right_ear"): 1.0,
}
_HEIGHT, _LOWER = 1.2, 0.06  # in widths: the box's height; its middle below that of the points


def read_coco_faces(path: Path) -> CocoLists:
    """Read a file of person keypoints.

    A person is a face if the nose or an eye is labelled, and another of the five points. Label:
    `face`, AFLW's 21 points, at most five of them known. Other persons, and crowds, may show faces
    without labels, so only images without persons are exhaustive. Raises UserError if no category
    has the five keypoints.
    """
    lists = coco_check.load_lists(path)
    names = {
        category["id"]: coco_check.keypoint_names(category)
        for category in lists.categories
        if isinstance(category, dict) and isinstance(category.get("id"), int)
    }
    if not any(set(POINTS) <= set(points) for points in names.values()):
        required = ", ".join(POINTS)
        raise UserError(
            f"{path}: no category has the keypoints {required}; use a person_keypoints file"
        )
    sizes = {
        image["id"]: (image.get("width"), image.get("height"))
        for image in lists.images
        if isinstance(image, dict) and isinstance(image.get("id"), int | str)
    }
    faces, faults = [], []
    for place, person in enumerate(lists.annotations):
        try:
            face = _face(person, names, sizes)
        except ValueError as error:
            number = person.get("id") if isinstance(person, dict) else None
            where = f"annotations[{place}]" if number is None else f"annotation {number}"
            faults.append(fault_line(path, f"{where}: {error}"))
            continue
        if face is not None:
            faces.append(face)
    categories = [{"id": 1, "name": "face"}]
    numbers = [p.get("image_id") for p in lists.annotations if isinstance(p, dict)]
    empty = frozenset(sizes) - {n for n in numbers if isinstance(n, int | str)}
    return CocoLists(path, lists.images, faces, categories, faults, exhaustive=empty)


def _face(
    person: Any, names: Mapping[int, Sequence[str]], sizes: Mapping[Any, tuple[Any, Any]]
) -> dict[str, Any] | None:
    """Return a person's face as an annotation, or None if it is not labelled."""
    if not isinstance(person, dict):
        raise ValueError("must be an object; correct or remove it")
    flat, known = person.get("keypoints"), names.get(person.get("category_id"), ())  # type: ignore[arg-type]
    if person.get("iscrowd") or not flat or not set(POINTS) <= set(known):
        return None
    if not isinstance(flat, list) or len(flat) != 3 * len(known):
        raise ValueError(f"keypoints must be {len(known)} x, y, v, as in its category; correct it")
    try:
        table = np.array(flat, float).reshape(-1, 3)
    except (TypeError, ValueError):
        raise ValueError("keypoints must be numbers; correct it") from None
    if not set(table[:, 2].tolist()) <= {0, 1, 2}:
        raise ValueError("a keypoint's visibility must be one of 0, 1, 2; correct it")
    rows = dict(zip(known, table.tolist(), strict=True))
    found = {name: rows[name][:2] for name in POINTS if rows[name][2] > 0}
    if len(found) < 2 or not found.keys() & {"nose", "left_eye", "right_eye"}:
        return None
    width, height = sizes.get(person.get("image_id"), (None, None))
    known_size = isinstance(width, int) and isinstance(height, int)
    if known_size:  # else the check of images reports it
        check_near(np.array(list(found.values())), width, height)
    placed = {name: pixel_centres(index, first=0).tolist() for name, index in found.items()}
    box = head_box(placed)
    if box[0] == box[2]:
        return None  # all its points coincide
    if known_size:
        box = clip(box, width, height)
    points: dict[str, Point] = {
        POINTS[name]: (x, y, int(rows[name][2])) for name, (x, y) in placed.items()
    }
    face = [points.get(name) for name in LANDMARKS]
    ids = {key: person.get(key) for key in ("id", "image_id")}
    return {**ids, "category_id": 1, "bbox": as_bbox(box), "attributes": {"face": face}}


def head_box(points: Mapping[str, Sequence[float]]) -> Box:
    """Return the box of a face, computed from two or more of COCO's five head points as described
    at the top of this module.
    """
    rows = {name: np.array(xy) for name, xy in points.items()}
    pairs = itertools.combinations([name for name in POINTS if name in rows], 2)
    width = max(float(np.linalg.norm(rows[a] - rows[b])) / _APART[a, b] for a, b in pairs)
    every = np.array(list(rows.values()))
    x, y = ((every.min(0) + every.max(0)) / 2).tolist()
    y += _LOWER * width
    return (
        x - width / 2,
        y - _HEIGHT * width / 2,
        x + width / 2,
        y + _HEIGHT * width / 2,
    )


def open_coco_faces(folder: Path, block: Block, labels: Labels) -> Source:
    annotations = find_annotations(folder, block["annotations"])
    images = find_images(folder, annotations, block["images"])
    return coco_source(read_coco_faces(annotations), images, block, labels)


FORMAT = Format(
    open_coco_faces,
    {"annotations": "", "images": ""},
    ("coco", "coco_mini"),
    "https://cocodataset.org/#download, person_keypoints (CC BY 4.0, each image under its own "
    "terms)",
)
