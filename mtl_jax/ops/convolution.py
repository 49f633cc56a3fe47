"""Convolution whose gradient is fast on every platform.

XLA:CPU computes the weight gradient of a convolution as a convolution with a window as large as the
image. For 1x1 kernels, for many channels and in a branch of a `cond`, this is several times slower
than the same sums written as matrix products. GPU and TPU have kernels for it, so the plain
gradient is kept there. Only `_by_platform` selects between the two.
"""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float

from mtl_jax.types import Array

Pair = tuple[int, int]
Padding = tuple[Pair, Pair]
LAYOUT = ("NHWC", "HWIO", "NHWC")
MIN_CHANNELS = 16  # with fewer, as in the first layer, XLA:CPU's own k x k gradient is faster


def conv(
    x: Float[Array, "B H W Ci"],
    kernel: Float[Array, "kh kw Ci Co"],
    strides: Sequence[int],
    padding: Sequence[Sequence[int]],
) -> Float[Array, "B Ho Wo Co"]:
    """Convolve `x` with `kernel`.

    `padding` is ((top, bottom), (left, right)). Sums are float32; the result has the dtype of `x`.
    """
    (top, bottom), (left, right) = padding
    return _conv(x, kernel, (strides[0], strides[1]), ((top, bottom), (left, right)))


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _conv(x: Array, kernel: Array, strides: Pair, padding: Padding) -> Array:
    return _by_platform(_forward_products, _forward_plain, strides, padding, x, kernel)


def _conv_forward(
    x: Array, kernel: Array, strides: Pair, padding: Padding
) -> tuple[Array, tuple[Array, Array]]:
    return _conv(x, kernel, strides, padding), (x, kernel)


def _conv_backward(
    strides: Pair, padding: Padding, saved: tuple[Array, Array], g: Array
) -> tuple[Array, Array]:
    return _by_platform(_backward_products, _backward_plain, strides, padding, *saved, g)


_conv.defvjp(_conv_forward, _conv_backward)


def _by_platform(
    products: Callable, plain: Callable, strides: Pair, padding: Padding, *operands: Array
) -> Array:
    return lax.platform_dependent(
        *operands,
        cpu=partial(products, strides, padding),
        default=partial(plain, strides, padding),
    )


def _forward_plain(strides: Pair, padding: Padding, x: Array, kernel: Array) -> Array:
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=LAYOUT)


def _backward_plain(
    strides: Pair, padding: Padding, x: Array, kernel: Array, g: Array
) -> tuple[Array, Array]:
    return jax.vjp(partial(_forward_plain, strides, padding), x, kernel)[1](g)


def _is_pointwise(kernel: Array, padding: Padding) -> bool:
    return kernel.shape[:2] == (1, 1) and padding == ((0, 0), (0, 0))


def _forward_products(strides: Pair, padding: Padding, x: Array, kernel: Array) -> Array:
    if not _is_pointwise(kernel, padding):
        return _forward_plain(strides, padding, x, kernel)
    return _matmul(x[:, :: strides[0], :: strides[1]], kernel[0, 0])


def _backward_products(
    strides: Pair, padding: Padding, x: Array, kernel: Array, g: Array
) -> tuple[Array, Array]:
    pointwise = _is_pointwise(kernel, padding)
    if not pointwise and min(kernel.shape[2:]) < MIN_CHANNELS:
        return _backward_plain(strides, padding, x, kernel, g)
    kernel_gradient = _kernel_gradient(strides, padding, x, kernel, g)
    if pointwise and strides == (1, 1):
        return _matmul(g, kernel[0, 0].T), kernel_gradient
    if strides == (1, 1):
        return _input_gradient(padding, kernel, g), kernel_gradient
    return _backward_plain(strides, padding, x, kernel, g)[0], kernel_gradient


def _input_gradient(padding: Padding, kernel: Array, g: Array) -> Array:
    """Convolve the output's gradient with the kernel rotated by 180 degrees, for strides of 1.

    Without the barrier XLA:CPU folds the rotation into the convolution; in a branch of a `cond` it
    then falls back to a kernel that is six times slower.
    """
    turned = lax.optimization_barrier(lax.rev(kernel, (0, 1)).transpose(0, 1, 3, 2))
    sides = zip(kernel.shape[:2], padding, strict=True)
    rest = [(size - 1 - low, size - 1 - high) for size, (low, high) in sides]
    return lax.conv_general_dilated(g, turned, (1, 1), rest, dimension_numbers=LAYOUT)


def _matmul(x: Array, kernel: Array) -> Array:
    """Multiply `[..., Ci]` by `[Ci, Co]` as one flat product."""
    flat = jnp.dot(x.reshape(-1, x.shape[-1]), kernel, preferred_element_type=jnp.float32)
    return flat.reshape(*x.shape[:-1], kernel.shape[-1]).astype(x.dtype)


def _kernel_gradient(strides: Pair, padding: Padding, x: Array, kernel: Array, g: Array) -> Array:
    """Multiply the input under each tap of the kernel by the output's gradient."""
    x = lax.pad(x, x.dtype.type(0), ((0, 0, 0), (*padding[0], 0), (*padding[1], 0), (0, 0, 0)))
    _, height, width, channels = g.shape
    taps = []
    for i, j in np.ndindex(kernel.shape[:2]):
        rows = slice(i, i + (height - 1) * strides[0] + 1, strides[0])
        columns = slice(j, j + (width - 1) * strides[1] + 1, strides[1])
        taps.append(x[:, rows, columns].reshape(-1, x.shape[-1]))
    # Without the barrier the slices are fused with a transposition into a slow loop.
    taps = lax.optimization_barrier(taps)
    flat = g.reshape(-1, channels)
    product = partial(jnp.einsum, "nc,no->co", preferred_element_type=jnp.float32)
    return (
        jnp.stack([product(tap, flat) for tap in taps]).reshape(kernel.shape).astype(kernel.dtype)
    )


@jax.custom_vjp
def depthwise_conv(
    x: Float[Array, "B H W C"], kernel: Float[Array, "k k C"]
) -> Float[Array, "B H W C"]:
    """Convolve each channel with its own k x k kernel, padded by (k - 1) / 2 zeros on each side.

    Stride 1, k odd. Sums are float32; the result has the dtype of `x`. On a CPU a sum of shifted
    products is 26 times faster than XLA's convolution.
    """
    return lax.platform_dependent(x, kernel, cpu=_depthwise_shifts, default=_depthwise_plain)


def _depthwise_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return depthwise_conv(x, kernel), (x, kernel)


def _depthwise_backward(saved: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    def shifts(x: Array, kernel: Array, g: Array) -> tuple[Array, Array]:
        product = partial(jnp.einsum, "bhwc,bhwc->c", preferred_element_type=jnp.float32)
        taps = [product(tap, g) for tap in _depthwise_taps(x, len(kernel))]
        gradient = jnp.stack(taps).reshape(kernel.shape).astype(kernel.dtype)
        return _depthwise_shifts(g, lax.rev(kernel, (0, 1))), gradient

    def plain(x: Array, kernel: Array, g: Array) -> tuple[Array, Array]:
        return jax.vjp(_depthwise_plain, x, kernel)[1](g)

    return lax.platform_dependent(*saved, g, cpu=shifts, default=plain)


depthwise_conv.defvjp(_depthwise_forward, _depthwise_backward)


def _depthwise_taps(x: Array, size: int) -> list[Array]:
    """Return the input under each tap of a kernel, row by row."""
    _, height, width, _ = x.shape
    margin = size // 2
    padded = jnp.pad(x, ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    return [padded[:, i : i + height, j : j + width] for i, j in np.ndindex(size, size)]


def _depthwise_shifts(x: Array, kernel: Array) -> Array:
    taps = _depthwise_taps(x, len(kernel))
    weights = kernel.astype(jnp.float32).reshape(len(taps), -1)
    products = (tap * weight for tap, weight in zip(taps, weights, strict=True))
    return sum(products, jnp.zeros(x.shape, jnp.float32)).astype(x.dtype)


def _depthwise_plain(x: Array, kernel: Array) -> Array:
    margin = len(kernel) // 2, len(kernel) // 2
    return lax.conv_general_dilated(
        x,
        kernel[:, :, None],
        (1, 1),
        (margin, margin),
        dimension_numbers=LAYOUT,
        feature_group_count=x.shape[-1],
    )
