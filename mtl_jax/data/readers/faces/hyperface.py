"""Read the samples of the HyperFace Keras repository: regions of photographs with the labels of
five tasks, in a `.npy` object array.

Source: `data/sample_data.npy` of
https://github.com/pasrichashivam/hyperface_deep_multi-task-learning_keras_implementation. A row is
an image (BGR), [1, 1] or [0, 0] (a face or none), 21 x, y from the region's centre in its widths
and heights, 21 visibilities, AFLW's roll, pitch, yaw (radians; see `aflw`), and [1, 0] male, [0, 1]
female or [0, 0] unknown.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mtl_jax.attributes.base import Attribute
from mtl_jax.attributes.vocabulary import LANDMARKS
from mtl_jax.data.face_points import degrees
from mtl_jax.data.readers.coco_lists import fault_line
from mtl_jax.data.readers.format import Block, Format, Labels, find_annotations
from mtl_jax.data.readers.labels import LabelReader
from mtl_jax.data.readers.safe_npy import load_object_array
from mtl_jax.data.records import Category, Instance, Record, Source
from mtl_jax.errors import AnnotationErrors, UserError

_COLUMNS = 6
_REACH = 1.5  # maximum distance of a point from the centre in region sizes; pixels are larger


class _Region(NamedTuple):
    row: int
    pixels: np.ndarray  # [H, W, 3] RGB
    face: bool
    labels: dict[str, Any]
    group: str


class HyperFaceSource(Source):
    """One record for each region. The box of a face is the whole region; regions without a face are
    negatives.

    Labels: `head`, a pose; `face`, AFLW's 21 points with visibility; `gender`, male or female. The
    rows do not name their photograph: consecutive faces, and the regions without a face that follow
    them, count as one photograph and stay in one split. All faulty rows are raised at once as
    AnnotationErrors. With `on_error="skip"`, they are left out and listed in `skipped`.
    """

    categories = (Category(1, "face"),)

    def __init__(
        self,
        path: str | Path,
        attributes: Sequence[Attribute] = (),
        *,
        keys: Mapping[str, Any] | None = None,
        on_error: str = "stop",
    ):
        self.path = Path(path)
        self._reader = LabelReader(attributes, keys)
        self._regions: list[_Region] = []
        faults: list[str] = []
        array = load_object_array(self.path)
        if array.ndim != 2 or array.shape[1] != _COLUMNS:
            raise UserError(
                f"{self.path}: must be an array of rows of {_COLUMNS}, got the shape {array.shape}"
            )
        photo, before = 0, True
        for number, row in enumerate(array):
            try:
                pixels, face, labels = _read_row(row)
                if wrong := self._reader.read(labels)[1]:
                    raise ValueError(wrong[0])
            except ValueError as error:
                faults.append(fault_line(self.path, f"row {number}: {error}"))
                continue
            photo += face and not before
            before = face
            self._regions.append(_Region(number, pixels, face, labels, f"photograph {photo}"))
        if faults and on_error == "stop":
            raise AnnotationErrors(faults)
        self.skipped = tuple(faults)

    def __len__(self) -> int:
        return len(self._regions)

    def __getitem__(self, position: int) -> Record:
        row, pixels, face, labels, _ = self._regions[position]
        height, width = pixels.shape[:2]
        box = (0.0, 0.0, float(width), float(height))
        read = self._reader.read(labels)[0]
        instances = (Instance(box, 1, id=row + 1, attributes=read),) if face else ()
        return Record(pixels, width, height, row, f"{row:06d}.png", instances)

    def key(self, position: int) -> int:
        """Return the number of the row."""
        return self._regions[position].row

    def group(self, position: int) -> str:
        """Return the name of the photograph."""
        return self._regions[position].group


def _read_row(row: np.ndarray) -> tuple[np.ndarray, bool, dict[str, Any]]:
    """Return the pixels (RGB) of a row, whether they show a face, and its labels. Raises ValueError
    if the row is invalid.
    """
    pixels = row[0]
    if not (
        isinstance(pixels, np.ndarray)
        and pixels.dtype == np.uint8
        and pixels.ndim == 3
        and pixels.shape[2] == 3
        and pixels.size
    ):
        raise ValueError("its image must be an array of height x width x 3 bytes")
    pixels = np.ascontiguousarray(pixels[..., ::-1])
    face = _numbers(row[1], "face", 2)
    if face.tolist() not in ([0, 0], [1, 1]):
        raise ValueError(f"its face must be [1, 1] or [0, 0], got {face.tolist()}")
    if not face[0]:
        return pixels, False, {}
    points = _numbers(row[2], "points", 2 * len(LANDMARKS)).reshape(-1, 2)
    visible = _numbers(row[3], "visibility", len(LANDMARKS)) > 0.5
    if not (np.abs(points[visible]) <= _REACH).all():
        raise ValueError("a point is far outside; points must be in region sizes from the centre")
    roll, pitch, yaw = degrees(_numbers(row[4], "pose", 3), "pose")
    height, width = pixels.shape[:2]
    labels: dict[str, Any] = {
        "head": {"yaw": yaw, "pitch": pitch, "roll": -roll},
        "face": [
            (*xy, 2) if seen else (None, None, 1)
            for xy, seen in zip(
                ((points + 0.5) * (width, height)).tolist(), visible.tolist(), strict=True
            )
        ],
    }
    gender = _numbers(row[5], "gender", 2).tolist()
    if gender in ([1, 0], [0, 1]):
        labels["gender"] = "male" if gender[0] else "female"
    return pixels, True, labels


def _numbers(value: Any, what: str, count: int) -> np.ndarray:
    try:
        found = np.asarray(value, float).ravel()
    except (TypeError, ValueError):
        raise ValueError(f"its {what} must be a list of numbers") from None
    if len(found) != count or not np.isfinite(found).all():
        raise ValueError(f"its {what} has {len(found)} numbers, expected {count}, all finite")
    return found


def open_hyperface(folder: Path, block: Block, labels: Labels) -> Source:
    path = find_annotations(folder, block["annotations"], (".npy",))
    return HyperFaceSource(path, labels.attributes, keys=labels.keys, on_error=labels.on_error)


FORMAT = Format(
    open_hyperface,
    {"annotations": ""},
    ("hyperface",),
    "https://github.com/pasrichashivam/hyperface_deep_multi-task-learning_keras_implementation"
    ", data/sample_data.npy (of AFLW)",
    "gender as perceived by an annotator",
)
