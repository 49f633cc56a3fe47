"""Write a sheet of faces in masks: drawn heads, sorted by yaw, or faces of a data set.

python docs/make_masks.py docs/masks.jpg
python docs/make_masks.py ibug.jpg --format ibug    requires the data in the folder MTL_JAX_DATA
"""

import argparse
from collections.abc import Iterator

import cv2
import numpy as np

from mtl_jax.attributes.declarations import from_config
from mtl_jax.attributes.vocabulary import LANDMARK_FLIP, LANDMARKS
from mtl_jax.config.options.data import SourceOptions
from mtl_jax.data.datasets.sources import open_split
from mtl_jax.data.datasets.subset import Subset
from mtl_jax.data.face_masks.apply import COVERED, DrawMasks
from mtl_jax.data.pixels import materialize, read_pixels
from mtl_jax.data.readers.formats import FORMATS
from mtl_jax.data.records import Instance, Record, Source
from mtl_jax.data.synthetic.head_scenes import SyntheticSource

ROWS, COLUMNS, SIDE = 4, 8, 128
DECLARED = from_config(
    {
        "face": dict(kind="landmarks", points=LANDMARKS, flip=LANDMARK_FLIP),
        "head": dict(kind="pose", angles=("yaw",)),
    }
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output")
    parser.add_argument("--format", default="synthetic", choices=FORMATS)
    options = parser.parse_args()
    bare = _drawn() if options.format == "synthetic" else _opened(options.format)
    faces = list(_faces(Subset(bare, range(len(bare)), deferred=(DrawMasks(DECLARED),))))
    if options.format == "synthetic":
        faces.sort(key=lambda face: face[1].attributes["head"][0][0])
    chosen = np.unique(np.linspace(0, len(faces) - 1, ROWS * COLUMNS).astype(int))
    cells = np.zeros((ROWS * COLUMNS, SIDE, SIDE, 3), np.uint8)
    for cell, i in zip(cells, chosen, strict=False):
        cell[:] = _cell(*faces[i])
    grid = cells.reshape(ROWS, COLUMNS, SIDE, SIDE, 3).transpose(0, 2, 1, 3, 4)
    image = grid.reshape(ROWS * SIDE, COLUMNS * SIDE, 3)
    cv2.imwrite(options.output, image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])


def _drawn() -> Source:
    return SyntheticSource(
        200,
        seed=77,
        size=(256, 256),
        heads=(1, 1),
        head_heights=(0.6, 0.8),
        distractors=(0, 0),
        yaw=90.0,
        pitch=25.0,
        roll=15.0,
        min_visible=0.98,
        texture_seed=77,
        attributes=DECLARED,
    )


def _opened(name: str) -> Source:
    block = dict(format=name, split="train")
    return open_split(SourceOptions(sources=(block,)), DECLARED, "train").sources[0]


def _faces(source: Source) -> Iterator[tuple[Record, Instance]]:
    few = np.linspace(0, len(source) - 1, min(len(source), 200)).astype(int)
    for record in (materialize(source[int(i)]) for i in few):
        for face in record.instances:
            if COVERED.annotate(*face.label_of(COVERED)) == "yes":
                yield record, face


def _cell(record: Record, face: Instance) -> np.ndarray:
    """Return a square crop around a face, within the image, resized to SIDE x SIDE pixels."""
    x1, y1, x2, y2 = face.box
    half = min(0.6 * max(x2 - x1, y2 - y1), record.width / 2, record.height / 2)
    x = np.clip((x1 + x2) / 2, half, record.width - half)
    y = np.clip((y1 + y2) / 2, half, record.height - half)
    to_cell = np.array([[1, 0, half - x], [0, 1, half - y]]) * SIDE / (2 * half)
    return cv2.warpAffine(
        read_pixels(record, 3), to_cell, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE
    )


if __name__ == "__main__":
    main()
