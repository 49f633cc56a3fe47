"""Selective search finds what is drawn, once, and keeps it."""

import numpy as np
import oracles
import pytest
from faces import DECLARED

from mtl_jax.data import proposals as module
from mtl_jax.data.options import RegionOptions
from mtl_jax.data.proposals import Proposals, search_all, selective_search
from mtl_jax.data.regions import cut_regions
from mtl_jax.data.synthetic import SyntheticSource

SOURCE = SyntheticSource(2, seed=5, size=(96, 128), heads=(1, 1), head_heights=(0.5, 0.8))
FAST = RegionOptions(proposals="fast", per_picture=8, search_side=100)


@pytest.mark.parametrize("kind", ["fast", "quality"])
def test_the_boxes_are_the_same_each_time_and_one_is_near_the_head(kind):
    record = SOURCE[0]
    boxes = selective_search(record.image, kind, 100)
    np.testing.assert_array_equal(boxes, selective_search(record.image, kind, 100))
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] <= (128, 96)).all()
    assert len(np.unique(boxes, axis=0)) == len(boxes)
    assert oracles.iou(boxes, [record.instances[0].box]).max() > 0.5


def test_a_picture_is_searched_once(tmp_path, monkeypatch):
    found = Proposals(SOURCE, FAST, tmp_path)
    search_all([found])
    assert len(list(tmp_path.iterdir())) == 2
    first = found(0)
    calls = []
    monkeypatch.setattr(module, "selective_search", lambda *a: calls.append(a) or first[:1])
    np.testing.assert_array_equal(found(0), first)
    assert not calls
    other = Proposals(SOURCE, RegionOptions(proposals="quality", search_side=100), tmp_path)
    other(0)  # another setting
    assert len(calls) == 1


def test_a_killed_search_leaves_no_half_file(tmp_path, monkeypatch):
    def broken(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(module.np, "savez_compressed", broken)
    with pytest.raises(KeyboardInterrupt):
        Proposals(SOURCE, FAST, tmp_path)(0)
    assert not list(tmp_path.iterdir())


def test_an_unreadable_picture_is_left_to_the_pipeline(tmp_path):
    class Broken:
        categories = SOURCE.categories

        def __len__(self):
            return 1

        def __getitem__(self, position):
            record = SOURCE[0]
            return type(record)(tmp_path / "none.jpg", 128, 96, 0, "none.jpg", record.instances)

        def group(self, position):
            return ""

    (regions,) = cut_regions([Broken()], DECLARED, FAST, tmp_path / "cache")
    assert regions[0].region is not None


def test_regions_are_of_the_proposals(tmp_path):
    (regions,) = cut_regions([SOURCE], DECLARED, FAST, tmp_path)
    boxes = {tuple(row) for row in selective_search(SOURCE[0].image, "fast", 100).tolist()}
    frames = [regions[i].region for i in range(8)]
    assert sum(frame in boxes for frame in frames) >= 6
