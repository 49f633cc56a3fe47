import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from mtl_jax.ops import convolution
from mtl_jax.ops.convolution import conv

# kernel side, stride, padding, channels in and out
CASES = [
    (1, 1, ((0, 0), (0, 0)), 5, 7),
    (1, 2, ((0, 0), (0, 0)), 5, 7),
    (1, 1, ((1, 0), (0, 1)), 3, 2),
    (3, 1, ((1, 1), (1, 1)), 4, 6),
    (3, 2, ((1, 1), (1, 1)), 4, 6),
    (3, 2, ((0, 1), (1, 0)), 3, 3),
    (7, 2, ((3, 3), (3, 3)), 3, 4),
    (5, 1, ((0, 0), (0, 0)), 2, 3),
]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("min_channels", [1, 128])
def test_values_and_gradients_are_those_of_plain_loops(case, min_channels, monkeypatch):
    monkeypatch.setattr(convolution, "MIN_CHANNELS", min_channels)
    side, stride, padding, channels, features = case
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 9, 12, channels)).astype(np.float32)
    kernel = rng.normal(size=(side, side, channels, features)).astype(np.float32)
    y, pull = jax.vjp(lambda x, k: conv(x, k, (stride, stride), padding), x, kernel)
    np.testing.assert_allclose(
        y, oracles.conv(x, kernel, (stride, stride), padding), rtol=1e-4, atol=1e-4
    )
    g = rng.normal(size=y.shape).astype(np.float32)
    expected = oracles.conv_gradients(x, kernel, (stride, stride), padding, g)
    for ours, theirs in zip(jax.jit(pull)(g), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=5e-4)


@pytest.mark.parametrize("side", [1, 3])
def test_half_precision_sums_in_full(side):
    rng = np.random.default_rng(1)
    pad = side // 2
    padding = ((pad, pad), (pad, pad))
    x = jnp.asarray(rng.normal(size=(2, 16, 16, 128)), jnp.bfloat16)
    kernel = jnp.asarray(rng.normal(size=(side, side, 128, 128)), jnp.bfloat16)
    y, pull = jax.vjp(lambda x, k: conv(x, k, (1, 1), padding), x, kernel)
    full, full_pull = jax.vjp(
        lambda x, k: conv(x, k, (1, 1), padding), *(a.astype(jnp.float32) for a in (x, kernel))
    )
    for ours, exact in zip((y, *pull(y)), (full, *full_pull(y.astype(jnp.float32))), strict=True):
        assert ours.dtype == jnp.bfloat16
        scale = float(jnp.abs(exact).max())
        # One rounding of the result to 8 bits; the error of sums in bfloat16 is much larger.
        np.testing.assert_allclose(ours.astype(jnp.float32), exact, rtol=2**-8, atol=2**-12 * scale)


def test_the_gradient_of_a_convolution_compiles_without_a_convolution_of_image_size():
    x, kernel = jnp.zeros((2, 32, 32, 8)), jnp.zeros((1, 1, 8, 16))
    gradient = jax.jit(jax.grad(lambda k: jnp.sum(conv(x, k, (1, 1), ((0, 0), (0, 0))) ** 2)))
    if jax.default_backend() != "cpu":
        pytest.skip("applies to CPU only")
    assert "convolution(" not in gradient.lower(kernel).compile().as_text()


def test_vmap():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(3, 2, 6, 6, 4)).astype(np.float32)
    kernel = rng.normal(size=(3, 3, 4, 5)).astype(np.float32)
    apply = lambda x: jnp.sin(conv(x, kernel, (1, 1), ((1, 1), (1, 1)))).sum()  # noqa: E731
    gradients = jax.vmap(jax.grad(apply))(x)
    for one, g in zip(x, gradients, strict=True):
        np.testing.assert_allclose(g, jax.grad(apply)(one), atol=1e-4)


SHARDED = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from mtl_jax.ops.convolution import conv
from mtl_jax.ops.roi_align import multilevel_roi_align

assert len(jax.devices()) == 4
rng = np.random.default_rng(0)
x = rng.normal(size=(8, 16, 16, 128)).astype(np.float32)
kernels = [rng.normal(size=(side, side, 128, 128)).astype(np.float32) for side in (1, 3)]
corner = rng.uniform(0, 60, (8, 6, 2))
boxes = np.concatenate([corner, corner + 50], -1).astype(np.float32)

def loss(x, kernels, boxes):
    for kernel in kernels:
        pad = kernel.shape[0] // 2
        x = jnp.tanh(conv(x, kernel, (1, 1), ((pad, pad), (pad, pad))))
    levels = jnp.zeros(6, jnp.int32)
    pool = lambda x, boxes: multilevel_roi_align([x], boxes, levels, [8], 5)
    return jnp.mean(jax.vmap(pool)(x, boxes) ** 2)

run = jax.jit(jax.value_and_grad(loss, (0, 1)))
alone = run(x, kernels, boxes)
mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
by_image, everywhere = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
placed = jax.device_put((x, kernels, boxes), (by_image, everywhere, by_image))
together = run(*placed)
assert not together[1][0].sharding.is_fully_replicated
assert "all-gather" not in run.lower(*placed).compile().as_text()
for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(together), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(a).max())
"""


def test_a_batch_on_four_devices_has_the_results_of_one_device():
    flags = "--xla_force_host_platform_device_count=4"
    env = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", SHARDED], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
