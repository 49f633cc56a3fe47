"""Heads of HyperFace, which processes one region at a time."""

from collections.abc import Collection, Mapping, Sequence

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Float

from mtl_jax.layers.output import output_layer
from mtl_jax.types import Array


class RegionHeads(nn.Module, kw_only=True):
    """Fully connected layers shared by all outputs, then a hidden and an output layer for each.

    `outputs` are the widths of the outputs by the names of their layers. Hidden layers are named
    `<name>_hidden`.
    """

    outputs: Mapping[str, int]
    fcs: Sequence[int]
    features: int
    dropout: float
    train: bool
    dtype: DTypeLike = jnp.float32
    one_score: Collection[str] = ()  # the layers whose outputs share a score

    @nn.compact
    def __call__(self, x: Float[Array, "R F"]) -> dict[str, Float[Array, "R O"]]:
        """Return each output in float32."""
        init = nn.initializers.variance_scaling(2.0, "fan_in", "truncated_normal")

        def hidden(x: Array, features: int, name: str) -> Array:
            x = nn.relu(nn.Dense(features, dtype=self.dtype, kernel_init=init, name=name)(x))
            return nn.Dropout(self.dropout, deterministic=not self.train)(x)

        for i, features in enumerate(self.fcs, start=1):
            x = hidden(x, features, f"fc{i}")
        found = {}
        for name, size in self.outputs.items():
            y = hidden(x, self.features, f"{name}_hidden").astype(jnp.float32)
            small = nn.initializers.normal(0.01)
            found[name] = output_layer(size, name in self.one_score, small, name)(y)
        return found
