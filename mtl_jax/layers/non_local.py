"""Self-attention over the cells of a map. Source: Wang et al., Non-local Neural Networks, 2018, eq.
1, 4 and 6, embedded Gaussian.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Bool, Float

from mtl_jax.layers.conv import Conv
from mtl_jax.layers.norm import make_norm
from mtl_jax.types import Array


class NonLocal(nn.Module):
    """Add to each cell the attention-weighted mean of all cells, computed with half the channels.

    A gain after the norm is initialised to 0, so the block is the identity at first. The norm is
    always a batch norm, independent of the trunk's.
    """

    train: bool
    norm_eps: float
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"], valid: Bool[Array, "B"]
    ) -> Float[Array, "B H W C"]:
        batch, height, width, channels = x.shape
        inner = max(1, channels // 2)

        def embed(name: str) -> Float[Array, "B N c"]:
            return Conv(inner, 1, dtype=self.dtype, name=name)(x).reshape(batch, -1, inner)

        likeness = jnp.einsum("bic,bjc->bij", embed("query"), embed("key"))
        shares = jax.nn.softmax(likeness.astype(jnp.float32)).astype(self.dtype)
        found = jnp.einsum("bij,bjc->bic", shares, embed("value"))
        y = Conv(channels, 1, use_bias=False, dtype=self.dtype, name="output")(
            found.reshape(batch, height, width, inner)
        )
        norm = make_norm("batch", self.train, self.norm_eps, self.dtype)(name="norm")
        gain = self.param("gain", nn.initializers.zeros_init(), (channels,))
        return x + gain.astype(self.dtype) * norm(y, valid)
