import numpy as np
import pytest

from mtl_jax.ops.anchors import cell_anchors, grid_anchors, pyramid_anchors

RATIOS = (0.5, 1.0, 2.0)


def test_cell_anchors_have_the_requested_area_and_ratio():
    anchors = cell_anchors((32, 64), RATIOS, rounded=False)
    widths, heights = anchors[:, 2] - anchors[:, 0], anchors[:, 3] - anchors[:, 1]
    np.testing.assert_allclose(np.sqrt(widths * heights), [32, 64] * 3, rtol=1e-5)
    np.testing.assert_allclose(heights / widths, np.repeat(RATIOS, 2), rtol=1e-5)
    np.testing.assert_allclose(anchors[:, :2], -anchors[:, 2:])


def test_rounded_cell_anchors_are_the_published_ones():
    expected = [[-23, -11, 23, 11], [-16, -16, 16, 16], [-11, -23, 11, 23]]
    np.testing.assert_array_equal(cell_anchors((32,), RATIOS), expected)


def test_grid_runs_over_columns_then_rows_with_a_cells_anchors_together():
    cell = cell_anchors((32,), RATIOS)
    grid = grid_anchors((3, 5), np.array([16, 8]), cell).reshape(3, 5, 3, 4)
    for i in range(3):
        for j in range(5):
            np.testing.assert_array_equal(grid[i, j], cell + np.array([j, 2 * i] * 2) * 8)


@pytest.mark.parametrize("size", [(64, 96), (200, 136)])
def test_pyramid_is_torchvisions(size):
    torch = pytest.importorskip("torch")
    detection = pytest.importorskip("torchvision.models.detection")
    shapes = [tuple(-(-side // 2**k) for side in size) for k in (2, 3, 4, 5, 6)]
    sizes = ((32,), (64,), (128,), (256,), (512,))
    make = detection.anchor_utils.AnchorGenerator(sizes, (RATIOS,) * 5)
    images = detection.image_list.ImageList(torch.zeros(1, 3, *size), [size])
    expected = make(images, [torch.zeros(1, 1, *shape) for shape in shapes])[0]
    strides = [tuple(side // n for side, n in zip(size, shape, strict=True)) for shape in shapes]
    anchors = pyramid_anchors(shapes, np.array(strides), sizes, RATIOS)
    assert anchors.dtype == np.float32
    np.testing.assert_array_equal(anchors, expected)
