"""Keep records that are costly to make, drawn or composed ones, in memory."""

from dataclasses import replace
from functools import partial

import numpy as np
from pycocotools import mask as coco_mask

from mtl_jax.data.pixels import materialize
from mtl_jax.data.records import Instance, Record, Source, Wrapper


class InMemory(Wrapper):
    """A source each of whose records is made once; deferred changes, too, when they are first
    needed. Images in files stay there; masks are kept as RLE.
    """

    def __init__(self, source: Source):
        super().__init__(source)
        self._records: dict[int, Record] = {}
        self._changed: dict[int, Record] = {}

    def __getitem__(self, position: int) -> Record:
        record = self._records.get(position)
        if record is None:  # two threads may both make it: they make the same
            record = self._records[position] = _compact(self.source[position])
        if not record.deferred:
            return record
        return replace(record, deferred=(partial(self._change, position),))

    def draw(self, position: int, rng: np.random.Generator) -> Record:
        return self[position]

    def _change(self, position: int, record: Record) -> Record:
        del record  # which is that of the position, its changes not made
        changed = self._changed.get(position)
        if changed is None:
            changed = self._changed[position] = _compact(materialize(self._records[position]))
        return changed


def _compact(record: Record) -> Record:
    return replace(record, instances=tuple(map(_as_rle, record.instances)))


def _as_rle(instance: Instance) -> Instance:
    if not isinstance(instance.segmentation, np.ndarray):
        return instance
    mask = np.asfortranarray(instance.segmentation, np.uint8)
    return replace(instance, segmentation=coco_mask.encode(mask))
