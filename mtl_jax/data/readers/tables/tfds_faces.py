"""Read AFLW2000-3D and 300W-LP from TensorFlow Datasets: `aflw2k3d` and `the300w_lp`.

Source: https://www.tensorflow.org/datasets/catalog/aflw2k3d and `/the300w_lp`. Unlike the files
that `aflw2000` reads, they contain iBUG's points alone, as fractions of the image's sides, and for
300W-LP the pose.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mtl_jax.attributes.base import Attribute
from mtl_jax.data.face_points import IBUG, degrees, face_box, from_ibug
from mtl_jax.data.readers.format import Block, Format, Labels
from mtl_jax.data.readers.labels import LabelReader
from mtl_jax.data.readers.tables import tfds
from mtl_jax.data.records import Category, Instance, Record, Source
from mtl_jax.errors import UserError
from mtl_jax.images import headers

_POINTS = ("landmarks_origin", "landmarks_68_3d_xy_normalized")  # 300W-LP's pt2d, AFLW2000's
_POSE = "pose_params"  # pitch, yaw, roll in radians, then translation and scale
_SHAPE = "shape_params"  # of the photographed face, the same in all poses rendered from it


class TfdsFaceSource(Source):
    """A split of `aflw2k3d` or `the300w_lp`, with one face in each record. `path` and `data_dir`
    are those of TfdsSource.

    Labels: `face`, AFLW's 21 points, and for 300W-LP `head`, a pose. All images rendered from a
    face stay in one split. Other faces of an image are not annotated.
    """

    categories = (Category(1, "face"),)

    def __init__(
        self,
        path: str,
        attributes: Sequence[Attribute] = (),
        *,
        data_dir: str = "",
        keys: Mapping[str, Any] | None = None,
    ):
        self.path = path
        self._reader = LabelReader(attributes, keys)
        builder, split = tfds.find_builder(path, data_dir)
        features: Any = builder.info.features
        self._points = next((name for name in _POINTS if name in features), "")
        if not self._points:
            raise UserError(f"{path}: has no {' or '.join(_POINTS)}; use aflw2k3d or the300w_lp")
        self._records = tfds.open_records(builder, split, "image")

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, position: int) -> Record:
        found = self._records[position]
        name = f"{self.path} {position}"
        size = headers.displayed_size(found["image"])
        if size is None:
            raise UserError(f"{name}: its image cannot be read; prepare the data set again")
        height, width = size
        points = np.asarray(found[self._points], float).reshape(IBUG, 2) * (width, height)
        try:
            box = face_box(points, width, height)
            labels: dict[str, Any] = {"face": from_ibug(points)}
            if _POSE in found:
                pitch, yaw, roll = degrees(np.asarray(found[_POSE], float)[:3], _POSE)
                labels["head"] = {"yaw": yaw, "pitch": pitch, "roll": roll}
        except ValueError as error:
            raise UserError(f"{name}: {error}") from None
        read, faults = self._reader.read(labels)
        if faults:
            raise UserError(f"{name}: {faults[0]}")
        face = Instance(box, 1, id=position + 1, attributes=read)
        return Record(found["image"], width, height, position, name, (face,), exhaustive=False)

    def group(self, position: int) -> str:
        """Return the position of the first record of the same face."""
        return str(self._groups[position])

    @cached_property
    def _groups(self) -> list[int]:
        first: dict[bytes, int] = {}
        shapes = (np.asarray(record.get(_SHAPE, i)) for i, record in enumerate(self._records))
        return [first.setdefault(shape.tobytes(), i) for i, shape in enumerate(shapes)]


def open_tfds_faces(folder: Path, block: Block, labels: Labels) -> Source:
    del folder
    return TfdsFaceSource(
        block["path"], labels.attributes, data_dir=block["data_dir"], keys=labels.keys
    )


FORMAT = Format(open_tfds_faces, {"data_dir": ""}, code=tfds.code_of)
