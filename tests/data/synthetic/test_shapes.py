import numpy as np
import pytest
from mistakes import refused

from mtl_jax.data.synthetic.shapes import ShapesSource


def _iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def test_an_image_depends_only_on_seed_and_position():
    first, again, other = ShapesSource(20, 3), ShapesSource(50, 3), ShapesSource(20, 4)
    for i in (0, 7, 19):
        np.testing.assert_array_equal(first[i].image, again[i].image)
        assert [n.box for n in first[i].instances] == [n.box for n in again[i].instances]
        assert not np.array_equal(first[i].image, other[i].image)


def test_boxes_are_the_tight_boxes_of_disjoint_masks():
    for record in (ShapesSource(60, 0)[i] for i in range(60)):
        total = np.zeros((record.height, record.width), int)
        for instance in record.instances:
            rows, columns = np.nonzero(instance.segmentation)
            assert instance.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert instance.area == len(rows)
            total += instance.segmentation
        assert 1 <= len(record.instances) <= 4
        assert total.max() == 1


def test_a_mask_shows_one_colour_and_nothing_is_left_over():
    for record in (ShapesSource(30, 1)[i] for i in range(30)):
        ground = np.ones((record.height, record.width), bool)
        for instance in record.instances:
            assert len(np.unique(record.image[instance.segmentation], axis=0)) == 1
            ground &= ~instance.segmentation
        assert len(np.unique(record.image[ground], axis=0)) == 1


def test_shapes_match_their_labels():
    """An unhidden shape fills the share of its box that a square, disc or triangle does."""
    filled = {1: [], 2: [], 3: []}
    for record in (ShapesSource(200, 2, max_shapes=1)[i] for i in range(200)):
        for instance in record.instances:
            x1, y1, x2, y2 = instance.box
            if min(x1, y1) > 0 and max(x2, y2) < 128:
                filled[instance.label].append(instance.area / ((x2 - x1) * (y2 - y1)))
    assert all(len(values) > 20 for values in filled.values())
    assert np.mean(filled[1]) == 1
    assert np.mean(filled[2]) == pytest.approx(np.pi / 4, abs=0.04)
    assert np.mean(filled[3]) == pytest.approx(0.5, abs=0.03)


def test_few_overlap_much():
    """Suppression uses the shapes' squares; boxes of visible parts overlap slightly more."""
    worst = [
        _iou(a.box, b.box)
        for record in (ShapesSource(100, 5)[i] for i in range(100))
        for n, a in enumerate(record.instances)
        for b in record.instances[:n]
    ]
    assert len(worst) > 50
    assert np.quantile(worst, 0.95) < 0.35


@pytest.mark.parametrize("size", [32, 64, 256])
def test_other_sizes(size):
    record = ShapesSource(3, 0, size=size)[2]
    assert record.image.shape == (size, size, 3)
    assert record.instances


def test_a_wrong_position_or_argument_is_refused():
    source = ShapesSource(3, 0)
    assert len(list(source)) == len(source) == 3
    with refused(3, error=IndexError):
        source[3]
    with refused("size", 32, error=ValueError):
        ShapesSource(3, 0, size=16)
