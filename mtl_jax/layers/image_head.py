"""Head that predicts one attribute from a feature map of the whole image."""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Bool, Float

from mtl_jax.types import Array


class ImageHead(nn.Module, kw_only=True):
    """Flatten the map, or average its cells inside the image; then apply hidden layers."""

    pool: str  # flatten | mean
    features: tuple[int, ...]
    dropout: float
    train: bool
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"], inside: Bool[Array, "B H W"]
    ) -> Float[Array, "B F"]:
        if self.pool == "mean":
            cells = inside[..., None].astype(x.dtype)
            x = (x * cells).sum((1, 2)) / jnp.maximum(cells.sum((1, 2)), 1)
        else:
            x = x.reshape(x.shape[0], -1)
        init = nn.initializers.glorot_uniform()
        dropout = nn.Dropout(self.dropout, deterministic=not self.train)
        for i, size in enumerate(self.features):
            x = nn.relu(nn.Dense(size, dtype=self.dtype, kernel_init=init, name=f"fc{i + 1}")(x))
            x = dropout(x) if i == 0 else x
        return x if self.features else dropout(x)
