import numpy as np

from mtl_jax.ops.windows import sliding_windows


def test_windows_of_two_sizes():
    """An image of 4 x 8 has windows of sides 2 (3 rows, 7 columns) and 4 (1 row, 3 columns)."""
    found = sliding_windows(4, 8, min_side=2, growth=2, step=0.5)
    small = [(x, y, x + 2, y + 2) for y in (0, 1, 2) for x in range(7)]
    large = [(x, 0, x + 4, 4) for x in (0, 2, 4)]
    np.testing.assert_array_equal(found, small + large)


def test_every_square_face_has_a_window_near_it():
    found = sliding_windows(100, 160, min_side=20, growth=1.5, step=0.25)
    assert (found >= 0).all()
    assert (found[:, 2:] <= (160, 100)).all()
    rng = np.random.default_rng(0)
    for side in rng.uniform(20, 100, 200):
        x, y = rng.uniform(0, (160 - side, 100 - side))
        common = np.minimum(found[:, 2:], (x + side, y + side)) - np.maximum(found[:, :2], (x, y))
        area = common.clip(0).prod(1)
        whole = (found[:, 2:] - found[:, :2]).prod(1) + side**2 - area
        assert (area / whole).max() > 0.5


def test_an_image_smaller_than_the_smallest_window_is_one_window():
    np.testing.assert_array_equal(sliding_windows(8, 8, 40, 1.5, 0.25), [[0, 0, 8, 8]])
