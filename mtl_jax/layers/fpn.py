"""Feature pyramid. Source: Lin et al., Feature Pyramid Networks for Object Detection, 2017."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Bool, Float

from mtl_jax.layers.conv import Conv
from mtl_jax.layers.norm import make_norm
from mtl_jax.types import Array


class Fpn(nn.Module, kw_only=True):
    """Compute P2..P6 of equal channels from C2..C5; P6 is every second cell of P5.

    `inside` marks the cells of C2..C5 that are inside the image; the others become 0.
    """

    channels: int
    norm: str
    norm_eps: float
    train: bool
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        features: Sequence[Float[Array, "B _ _ _"]],
        inside: Sequence[Bool[Array, "B _ _"]],
    ) -> tuple[Float[Array, "B _ _ C"], ...]:
        def conv_norm(x: Array, level: int, name: str, size: int) -> Array:
            # torchvision's kaiming_uniform(a=1)
            init = nn.initializers.variance_scaling(1.0, "fan_in", "uniform")
            bias = self.norm == "none"
            conv = Conv(
                self.channels,
                size,
                use_bias=bias,
                kernel_init=init,
                dtype=self.dtype,
                name=f"{name}{level}",
            )
            x = conv(x)
            norm = make_norm(self.norm, self.train, self.norm_eps, self.dtype)
            return norm(name=f"{name}{level}_norm")(x, inside[level - 2])

        top_down: Array | None = None
        pyramid: list[Array] = []
        for level in range(len(features) + 1, 1, -1):
            lateral = conv_norm(features[level - 2], level, "lateral", 1)
            top_down = lateral if top_down is None else lateral + _upsample(top_down, lateral)
            pyramid.insert(0, conv_norm(top_down, level, "output", 3))
        return (*pyramid, pyramid[-1][:, ::2, ::2])


def _upsample(coarse: Float[Array, "B h w C"], like: Float[Array, "B H W C"]) -> Array:
    """Repeat each cell twice along both axes and crop to the size of `like`, which may be odd."""
    twice = coarse.repeat(2, axis=1).repeat(2, axis=2)
    return twice[:, : like.shape[1], : like.shape[2]]
