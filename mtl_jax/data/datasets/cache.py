"""Keep records in memory that are expensive to make, such as synthetic or composed ones."""

from dataclasses import replace
from functools import partial

import numpy as np
from pycocotools import mask as coco_mask

from mtl_jax.data.pixels import materialize
from mtl_jax.data.records import Instance, Record, Source, Wrapper


class InMemory(Wrapper):
    """A source that makes each record of the wrapped source once and keeps it.

    Deferred changes are applied once, when they are first needed. Images in files are not loaded;
    masks are kept as RLE. `draw` returns the same record as indexing.
    """

    def __init__(self, source: Source):
        super().__init__(source)
        self._records: dict[int, Record] = {}
        self._changed: dict[int, Record] = {}

    def __getitem__(self, position: int) -> Record:
        record = self._records.get(position)
        if record is None:  # if two threads both make it, the results are equal
            record = self._records[position] = _compact(self.source[position])
        if not record.deferred:
            return record
        return replace(record, deferred=(partial(self._change, position),))

    def draw(self, position: int, rng: np.random.Generator) -> Record:
        return self[position]

    def _change(self, position: int, record: Record) -> Record:
        del record  # the unchanged record of `position`, which is in `_records`
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
