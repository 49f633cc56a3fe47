"""HyperFace-ResNet's fusion of a ResNet's stages.

Source: Ranjan et al., HyperFace, 2016 (https://arxiv.org/abs/1603.01249), section 4.4.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Bool, Float

from mtl_jax.layers.conv import Conv
from mtl_jax.layers.norm import make_norm
from mtl_jax.types import Array


class ResNetFusion(nn.Module, kw_only=True):
    """Add each stage's map to the next stage's, and return the last sum.

    A 3 x 3 convolution halves the map, and a 1 x 1 convolution changes it to the next stage's
    number of channels.
    """

    norm: str
    norm_eps: float
    train: bool
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, stages: Sequence[Float[Array, "R _ _ _"]], valid: Bool[Array, "R"]
    ) -> Float[Array, "R h w C"]:
        norm = make_norm(self.norm, self.train, self.norm_eps, self.dtype)
        bias = self.norm == "none"
        fused = stages[0]
        for i, stage in enumerate(stages[1:], start=3):
            for size, features in ((3, fused.shape[-1]), (1, stage.shape[-1])):
                name, stride = f"{i}_{size}x{size}", 2 if size == 3 else 1
                conv = Conv(
                    features, size, stride, use_bias=bias, dtype=self.dtype, name=f"conv{name}"
                )
                fused = nn.relu(norm(name=f"norm{name}")(conv(fused), valid))
            fused += stage
        return fused
