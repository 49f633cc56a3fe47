import numpy as np
import pytest

from mtl_jax.ops import response_norm
from mtl_jax.ops.response_norm import local_response_norm

torch = pytest.importorskip("torch")


def test_local_response_norm_is_pytorchs():
    x = np.random.default_rng(0).normal(0, 40, (2, 3, 4, 9)).astype(np.float32)
    layer = torch.nn.LocalResponseNorm(response_norm.SIZE)
    expected = layer(torch.from_numpy(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    assert abs(expected.numpy() - x).max() > 1  # the norm has an effect
    np.testing.assert_allclose(local_response_norm(x), expected, rtol=1e-5, atol=1e-5)
