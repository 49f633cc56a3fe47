"""Max pooling whose gradient is fast on every platform.

XLA differentiates a `reduce_window` by searching each window again and scattering. On CPU this is
several times slower than differentiating the comparisons that find the maximum.
"""

from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float

from mtl_jax.types import Array

Padding = tuple[tuple[int, int], tuple[int, int]]
NO_PADDING: Padding = ((0, 0), (0, 0))


def max_pool(
    x: Float[Array, "B H W C"], window: int, padding: Padding = NO_PADDING
) -> Float[Array, "B Ho Wo C"]:
    """Return the maximum of each `window` x `window` window (2 or 3), with a stride of 2.

    `padding` is ((top, bottom), (left, right)). Trailing cells that do not fill a window are
    ignored. Of equal cells the first in row-major order receives the gradient.
    """
    return _max_pool(x, window, padding)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _max_pool(x: Array, window: int, padding: Padding) -> Array:
    return nn.max_pool(x, (window, window), (2, 2), padding)  # type: ignore[arg-type]


def _forward(x: Array, window: int, padding: Padding) -> tuple[Array, Callable[[Array], Any]]:
    return jax.vjp(partial(_by_comparisons, window, padding), x)


def _backward(window: int, padding: Padding, undo: Callable[[Array], Any], g: Array) -> Any:
    return undo(g)


_max_pool.defvjp(_forward, _backward)


def _by_comparisons(window: int, padding: Padding, x: Array) -> Array:
    for axis in (2, 1):  # columns first: of equal cells in two rows, the upper one is selected
        x = _along(axis, window, padding[axis - 1], x)
    return x


def _along(axis: int, window: int, padding: tuple[int, int], x: Array) -> Array:
    """Pool along an axis; even and odd cells are split first, which avoids strided slices."""
    count = (x.shape[axis] + sum(padding) - window) // 2 + 1
    before, after = padding[0], 2 * (count + 1) - padding[0] - x.shape[axis]
    edges = [(0, 0, 0)] * x.ndim
    edges[axis] = (before, after, 0)  # negative padding crops
    x = lax.pad(x, x.dtype.type(-jnp.inf), edges)
    pairs = x.reshape(*x.shape[:axis], count + 1, 2, *x.shape[axis + 1 :])
    parts = [lax.index_in_dim(pairs, i, axis + 1, keepdims=False) for i in (0, 1)]
    taps = [
        lax.slice_in_dim(parts[i % 2], i // 2, i // 2 + count, axis=axis) for i in range(window)
    ]
    return reduce(_larger, taps)


def _larger(first: Array, second: Array) -> Array:
    return jnp.where(first >= second, first, second)
