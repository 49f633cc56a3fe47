"""Faces that wear masks: drawn into records on their way to training or evaluation."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import numpy as np

from mtl_jax.data.face_masks.fit import Frame, chip_frame, frame_of
from mtl_jax.data.face_masks.render import draw_wearing, put_on
from mtl_jax.data.records import Category, Instance, Record, Source, pixels_of

BARE = "none"
LABEL, POINTS = "face_mask", "face"  # the attributes of an instance: what is worn, its landmarks
COVERED = "masked"  # and whether a mask is, yes or no
FULL = 0.9  # of a picture that a face's box covers from which on it is an aligned chip


def mask_faces(record: Record, share: float, rng: np.random.Generator) -> Record:
    """Let the faces of a record wear masks with the probability `share`, all or none, and label
    each with what it wears, one of KINDS or BARE, and with whether that is a mask.

    A face is found by its landmarks (AFLW's 21 or iBUG's 68), or, where its box is the whole
    picture, by the template of aligned chips; others stay bare. What wears a mask keeps it, and
    landmarks below it are hidden ones. A region that shows too little of a face to have its labels
    stays as it is.
    """
    if record.region is not None and not record.exhaustive:
        return record
    if rng.random() >= share:
        return replace(record, instances=tuple(_labelled(i, _worn(i)) for i in record.instances))
    pixels = pixels_of(record)
    faces = []
    for instance in record.instances:
        frame, wearing = _frame(instance, record, rng), draw_wearing(rng)
        if frame is None or _worn(instance) != BARE:
            faces.append(_labelled(instance, _worn(instance)))
            continue
        pixels, outline = put_on(pixels, frame, wearing)
        faces.append(_labelled(_covered(instance, outline), wearing.kind))
    return replace(record, image=pixels, instances=tuple(faces))


def face_rng(seed: int, name: str) -> np.random.Generator:
    """Give the randomness of a picture by its name: the same in every split and order."""
    return np.random.default_rng([seed, *name.encode()])


def _frame(instance: Instance, record: Record, rng: np.random.Generator) -> Frame | None:
    points = instance.attributes.get(POINTS)
    if points is not None:
        try:
            return frame_of(_as_array(points))
        except ValueError:
            return None  # too few of its points are known
    x1, y1, x2, y2 = instance.box
    if (x2 - x1) * (y2 - y1) < FULL * record.width * record.height:
        return None
    return chip_frame(record.height, record.width, rng)


def _as_array(points: Sequence[Any]) -> np.ndarray:
    """Give `[n, 2]` of a label of landmarks; NaN where a place is not known."""
    rows = [(None, None) if row is None else row[:2] for row in _as_rows(points)]
    return np.array([[np.nan if v is None else float(v) for v in row] for row in rows])


def _as_rows(points: Sequence[Any]) -> Sequence[Any]:
    """Give a label of landmarks as rows, also COCO's flat x, y, v; None where v is 0."""
    rows = points
    if points and isinstance(points[0], int | float):
        rows = [tuple(points[i : i + 3]) for i in range(0, len(points), 3)]
    return [None if row is None or (len(row) == 3 and row[2] == 0) else row for row in rows]


def _covered(instance: Instance, outline: np.ndarray) -> Instance:
    """Say of those landmarks that are seen and lie in `outline` `[H, W]` that they are hidden."""
    points = instance.attributes.get(POINTS)
    if points is None:
        return instance
    height, width = outline.shape
    rows = []
    for row in _as_rows(points):
        if row is not None and len(row) == 3 and row[2] == 2:
            x, y = math.floor(row[0]), math.floor(row[1])
            if 0 <= x < width and 0 <= y < height and outline[y, x]:
                row = (*row[:2], 1)
        rows.append(row)
    return replace(instance, attributes={**instance.attributes, POINTS: rows})


def _worn(instance: Instance) -> str:
    return instance.attributes.get(LABEL, BARE)


def _labelled(instance: Instance, kind: str) -> Instance:
    covered = "no" if kind == BARE else "yes"
    return replace(instance, attributes={**instance.attributes, LABEL: kind, COVERED: covered})


class MaskedFaces:
    """A source whose faces wear masks with the probability `share`, as `mask_faces`: always the
    same ones, by the seed and the picture's name. A record stays in its group.
    """

    def __init__(self, source: Source, share: float = 1.0, seed: int = 0):
        if not 0 <= share <= 1:
            raise ValueError(f"masks {share} must be a probability, 0 to 1")
        self.source, self.share, self.seed = source, share, seed
        self.categories: tuple[Category, ...] = source.categories

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, position: int) -> Record:
        record = self.source[position]
        return mask_faces(record, self.share, face_rng(self.seed, record.file_name))

    def group(self, position: int) -> str:
        return self.source.group(position)

    def unmasked(self) -> Source:
        return self.source


@runtime_checkable
class Unmaskable(Protocol):
    """A source that draws masks, or has such a source's records."""

    def unmasked(self) -> Source: ...


def unmasked(source: Source) -> Source:
    """Give a source's records as they are before masks are drawn, for which no picture is read."""
    return source.unmasked() if isinstance(source, Unmaskable) else source
