"""Selective search finds synthetic heads, and its results are computed once and cached."""

import jax
import numpy as np
import oracles
import pytest
from faces import DECLARED

from mtl_jax.config.options.data import DataOptions, RegionOptions
from mtl_jax.data.datasets import selective_search as module
from mtl_jax.data.datasets.regions import cut_regions
from mtl_jax.data.datasets.selective_search import (
    BatchSearch,
    SearchedSource,
    search_all,
    selective_search,
)
from mtl_jax.data.loader import transforms
from mtl_jax.data.records import Source
from mtl_jax.data.synthetic.head_scenes import SyntheticSource

SOURCE = SyntheticSource(2, seed=5, size=(96, 128), heads=(1, 1), head_heights=(0.5, 0.8))
FAST = RegionOptions(proposals="fast", per_image=8, search_side=100)


@pytest.mark.parametrize("kind", ["fast", "quality"])
def test_the_boxes_are_the_same_each_time_and_one_is_near_the_head(kind):
    record = SOURCE[0]
    boxes = selective_search(record.image, kind, 100)
    np.testing.assert_array_equal(boxes, selective_search(record.image, kind, 100))
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] <= (128, 96)).all()
    assert len(np.unique(boxes, axis=0)) == len(boxes)
    assert oracles.iou(boxes, [record.instances[0].box]).max() > 0.5


def test_an_image_is_searched_once(tmp_path, monkeypatch):
    found = SearchedSource(SOURCE, FAST, tmp_path)
    search_all([found])
    assert len(list(tmp_path.iterdir())) == 2
    first = found(0)
    calls = []
    monkeypatch.setattr(module, "selective_search", lambda *a: calls.append(a) or first[:1])
    np.testing.assert_array_equal(found(0), first)
    assert not calls
    other = SearchedSource(SOURCE, RegionOptions(proposals="quality", search_side=100), tmp_path)
    other(0)  # another setting
    assert len(calls) == 1


def test_a_killed_search_leaves_no_partial_file(tmp_path, monkeypatch):
    def broken(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(module.np, "savez_compressed", broken)
    with pytest.raises(KeyboardInterrupt):
        SearchedSource(SOURCE, FAST, tmp_path)(0)
    assert not list(tmp_path.iterdir())


BROKEN = {
    "text": lambda path: path.write_text("PK"),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:200]),
    "another array": lambda path: np.savez(path, points=np.zeros((1, 4), np.int32)),
    "another shape": lambda path: np.savez(path, boxes=np.zeros(4, np.int32)),
    "another type": lambda path: np.savez(path, boxes=np.zeros((1, 4))),
    "many boxes": lambda path: np.savez_compressed(path, boxes=np.zeros((2**21, 4), np.int32)),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_of_the_cache_is_searched_anew(tmp_path, monkeypatch, kind):
    found = np.array([[1, 2, 30, 40]], np.int32)
    monkeypatch.setattr(module, "selective_search", lambda *args: found)
    SearchedSource(SOURCE, FAST, tmp_path)(0)
    (path,) = tmp_path.iterdir()
    BROKEN[kind](path)
    np.testing.assert_array_equal(SearchedSource(SOURCE, FAST, tmp_path)(0), found)
    with np.load(path) as stored:
        np.testing.assert_array_equal(stored["boxes"], found)
    assert list(tmp_path.iterdir()) == [path]


def test_an_unreadable_image_is_left_to_the_pipeline(tmp_path):
    class Broken(Source):
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


def batch_of_two():
    """Return a batch of a synthetic image, smaller than the padded image, and an invalid row."""
    canvas = np.full((2, 100, 140, 3), 77, np.uint8)
    canvas[0, :96, :128] = SOURCE[0].image
    row = transforms.empty_row((100, 140), (), DataOptions(max_instances=1, mask_size=1))
    batch = jax.tree.map(lambda x: np.stack([x, x]), row)
    sizes = np.array([[96, 128], [100, 140]], np.float32)
    return batch._replace(images=canvas, sizes=sizes, valid=np.array([True, False]))


def test_proposals_of_its_images_are_added_to_a_batch(tmp_path):
    found = BatchSearch(FAST, 2000)(batch_of_two().inputs).proposals
    boxes = selective_search(SOURCE[0].image, "fast", 100)
    assert found.valid.sum(1).tolist() == [len(boxes), 0]
    np.testing.assert_array_equal(found.boxes[0, : len(boxes)], boxes)
    few = BatchSearch(FAST, 9)(batch_of_two().inputs).proposals
    assert few.valid.all(1).tolist() == [True, False]
    kept = {tuple(row) for row in few.boxes[0].tolist()}
    assert len(kept) == 9
    assert kept < {tuple(row) for row in boxes.tolist()}
    assert np.ptp(few.boxes[0, :, 0]) == np.ptp(
        boxes[:, 0]
    )  # from everywhere, not only from one side


def test_the_images_of_a_batch_are_searched_once(tmp_path, monkeypatch):
    first = BatchSearch(FAST, 100, tmp_path)(batch_of_two().inputs)
    assert len(list(tmp_path.iterdir())) == 1
    monkeypatch.setattr(module, "selective_search", None)
    again = BatchSearch(FAST, 100, tmp_path)(batch_of_two().inputs)
    jax.tree.map(np.testing.assert_array_equal, first, again)


def test_gray_and_float_images_are_searched():
    batch = batch_of_two()
    gray = batch.images.mean(-1, keepdims=True).astype(np.float32)
    found = BatchSearch(FAST, 2000)(batch.inputs._replace(images=gray)).proposals
    whole = np.repeat(np.rint(gray[0, :96, :128]).astype(np.uint8), 3, -1)
    np.testing.assert_array_equal(
        found.boxes[0][found.valid[0]], selective_search(whole, "fast", 100)
    )


def test_most_regions_are_proposals(tmp_path):
    (regions,) = cut_regions([SOURCE], DECLARED, FAST, tmp_path)
    boxes = {tuple(row) for row in selective_search(SOURCE[0].image, "fast", 100).tolist()}
    frames = [regions[i].region for i in range(8)]
    assert sum(frame in boxes for frame in frames) >= 6
