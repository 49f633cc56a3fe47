"""2 x 2 pooling beside flax's: the same numbers, and the same gradient where cells are equal."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from mtl_jax.ops.pooling import max_pool_2x2


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (3, 2)])
@pytest.mark.parametrize("levels", [2, 1000])
def test_it_is_flax_s_max_pool(size, levels):
    rng = np.random.default_rng(0)
    x = rng.integers(-levels, levels, (2, *size, 3)).astype(np.float32)
    expected, expected_vjp = jax.vjp(lambda x: nn.max_pool(x, (2, 2), (2, 2)), x)
    found, vjp = jax.vjp(max_pool_2x2, x)
    np.testing.assert_array_equal(found, expected)
    slope = rng.normal(size=expected.shape).astype(np.float32)
    np.testing.assert_array_equal(vjp(slope)[0], expected_vjp(slope)[0])
