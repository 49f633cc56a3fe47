"""Cached records equal those of the source and are made once."""

import numpy as np

from mtl_jax.data.datasets.cache import InMemory
from mtl_jax.data.segmentation import to_mask
from mtl_jax.data.synthetic.shapes import ShapesSource


class Counting(ShapesSource):
    made = 0

    def __getitem__(self, position):
        self.made += 1
        return super().__getitem__(position)


def test_records_are_made_once_and_not_changed():
    source = Counting(3, seed=5)
    kept = InMemory(source)
    for _ in range(2):
        for position in range(3):
            record, fresh = kept[position], ShapesSource(3, seed=5)[position]
            np.testing.assert_array_equal(record.image, fresh.image)
            for a, b in zip(record.instances, fresh.instances, strict=True):
                assert a.box == b.box
                np.testing.assert_array_equal(to_mask(a.segmentation, 128, 128), b.segmentation)
    assert source.made == 3
    assert (len(kept), kept.categories, kept.group(2)) == (3, source.categories, source.group(2))
