"""Linen layer of `ops.convolution`, whose gradient is fast on every platform."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Float

from mtl_jax.ops.convolution import conv
from mtl_jax.types import Array


class Conv(nn.Module):
    """A k x k convolution, padded by k // 2 on each side unless `padding` is set."""

    features: int
    kernel_size: int = 3
    stride: int = 1
    use_bias: bool = True
    padding: Sequence[tuple[int, int]] | None = None
    kernel_init: nn.initializers.Initializer = nn.initializers.variance_scaling(
        2.0, "fan_out", "normal"
    )
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W Ci"]) -> Float[Array, "B Ho Wo Co"]:
        size = self.kernel_size
        kernel = self.param("kernel", self.kernel_init, (size, size, x.shape[-1], self.features))
        padding = self.padding or ((size // 2, size // 2),) * 2
        y = conv(
            x.astype(self.dtype), kernel.astype(self.dtype), (self.stride, self.stride), padding
        )
        if not self.use_bias:
            return y
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        return y + bias.astype(self.dtype)
