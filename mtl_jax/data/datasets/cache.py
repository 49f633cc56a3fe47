"""Keep records that are costly to make, drawn or composed ones, in memory."""

from dataclasses import replace

import numpy as np
from pycocotools import mask as coco_mask

from mtl_jax.data.face_masks.apply import unmasked
from mtl_jax.data.records import Category, Instance, Record, Source


class InMemory:
    """A source each of whose records is made once. Pictures in files stay there; masks are RLEs."""

    def __init__(self, source: Source):
        self.source = source
        self.categories: tuple[Category, ...] = tuple(source.categories)
        self._records: dict[int, Record] = {}

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, position: int) -> Record:
        record = self._records.get(position)
        if record is None:  # two threads may both make it: they make the same
            record = self.source[position]
            record = replace(record, instances=tuple(map(_compact, record.instances)))
            self._records[position] = record
        return record

    def group(self, position: int) -> str:
        return self.source.group(position)

    def unmasked(self) -> Source:
        plain = unmasked(self.source)
        return self if plain is self.source else plain


def _compact(instance: Instance) -> Instance:
    if not isinstance(instance.segmentation, np.ndarray):
        return instance
    mask = np.asfortranarray(instance.segmentation, np.uint8)
    return replace(instance, segmentation=coco_mask.encode(mask))
