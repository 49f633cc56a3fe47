"""Normalisation layers by name: frozen, batch, group or none."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Bool, Float

from mtl_jax.types import Array


class FrozenBatchNorm(nn.Module):
    """Batch normalisation with constant statistics, scale and bias, for imported weights.

    All four vectors are in `batch_stats`, so that no optimizer updates them.
    """

    epsilon: float = 1e-5
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*S C"]) -> Float[Array, "*S C"]:
        channels = (x.shape[-1],)
        scale = self.variable("batch_stats", "scale", jnp.ones, channels).value
        bias = self.variable("batch_stats", "bias", jnp.zeros, channels).value
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels).value
        var = self.variable("batch_stats", "var", jnp.ones, channels).value
        factor = scale * jax.lax.rsqrt(var + self.epsilon)
        return x * factor.astype(self.dtype) + (bias - mean * factor).astype(self.dtype)


class Norm(nn.Module, kw_only=True):
    """Normalise channels. Cells where `mask` is False are excluded from statistics and become 0.

    `mask` has the first axes of the input: [B] or more. A batch norm that is listed in the variable
    collection `frozen` uses its running statistics also in training.
    """

    kind: str
    train: bool
    epsilon: float = 1e-5
    dtype: DTypeLike = jnp.float32
    momentum: float = 0.9  # of a batch norm's running statistics

    @nn.compact
    def __call__(self, x: Float[Array, "*S C"], mask: Bool[Array, "..."]) -> Float[Array, "*S C"]:
        mask = mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim))
        return jnp.where(mask, self._normalize(x, mask), 0)

    def _normalize(self, x: Array, mask: Array) -> Array:
        if self.kind == "none":
            return x
        if self.kind == "frozen":
            return FrozenBatchNorm(self.epsilon, self.dtype, name="norm")(x)
        if self.kind == "group":
            # A vector is one group: too few numbers per group would have no meaningful scale.
            groups = max(1, min(32, x.shape[-1] // 4)) if x.ndim > 2 else 1
            while x.shape[-1] % groups:
                groups -= 1
            norm = nn.GroupNorm(groups, epsilon=self.epsilon, dtype=self.dtype, name="norm")
            # A row that is masked entirely has no statistics: all of it is counted, to avoid NaN.
            empty = ~jnp.any(mask, axis=tuple(range(1, x.ndim)), keepdims=True)
            counted = jnp.broadcast_to(mask | empty, x.shape)  # flax reshapes it like x
            return norm(x, mask=counted)
        if self.kind == "batch":
            fixed = not self.train or self.has_variable("frozen", "norm")
            # A batch that is masked entirely has no statistics: the running ones are kept.
            some = jnp.any(mask)
            momentum: Any = jnp.where(some, self.momentum, 1.0)
            norm = nn.BatchNorm(
                fixed, momentum=momentum, epsilon=self.epsilon, dtype=self.dtype, name="norm"
            )
            return norm(x, mask=mask | ~some)
        raise ValueError(f"norm {self.kind!r} is not frozen, batch, group or none")


def make_norm(kind: str, train: bool, epsilon: float, dtype: DTypeLike) -> partial[Norm]:
    """Return a constructor of `Norm` layers that only requires `name`."""
    return partial(Norm, kind=kind, train=train, epsilon=epsilon, dtype=dtype)
