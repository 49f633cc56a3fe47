"""Max pooling against flax's: the same numbers, and the same gradient where cells are equal."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from mtl_jax.ops.pooling import max_pool

PADDINGS = [((0, 0), (0, 0)), ((1, 1), (1, 1)), ((0, 1), (0, 1)), ((1, 0), (0, 1))]


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (3, 4)])
@pytest.mark.parametrize("levels", [2, 1000])
@pytest.mark.parametrize("window", [2, 3])
@pytest.mark.parametrize("padding", PADDINGS)
def test_is_flaxs_max_pool(size, levels, window, padding):
    rng = np.random.default_rng(0)
    x = rng.integers(-levels, levels, (2, *size, 3)).astype(np.float32)
    expected, expected_vjp = jax.vjp(lambda x: nn.max_pool(x, (window, window), (2, 2), padding), x)
    found, vjp = jax.vjp(lambda x: max_pool(x, window, padding), x)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(max_pool(x, window, padding), expected)
    slope = rng.integers(-9, 9, expected.shape).astype(np.float32)  # sums are exact
    np.testing.assert_array_equal(vjp(slope)[0], expected_vjp(slope)[0])
