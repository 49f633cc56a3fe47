"""The heads that read attributes from pooled regions."""

from collections.abc import Mapping

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Bool, Float

from mtl_jax.layers.conv import Conv
from mtl_jax.layers.norm import make_norm
from mtl_jax.types import Array


class AttributeHead(nn.Module):
    """A light trunk shared by all attributes, then a hidden layer and an output layer for each.

    The trunk is `convs` 3x3 convolutions, the last of which halves the resolution.
    """

    outputs: Mapping[str, int]  # width of each attribute's output
    convs: int
    channels: int
    features: int
    dropout: float
    norm: str
    norm_eps: float
    train: bool
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "R S S C"], valid: Bool[Array, "R"]
    ) -> dict[str, Float[Array, "R O"]]:
        for i in range(self.convs):
            stride = 2 if i == self.convs - 1 else 1
            bias = self.norm == "none"
            x = Conv(self.channels, 3, stride, bias, dtype=self.dtype, name=f"conv{i + 1}")(x)
            norm = make_norm(self.norm, self.train, self.norm_eps, self.dtype)
            x = nn.relu(norm(name=f"norm{i + 1}")(x, valid))
        x = x.reshape(x.shape[0], -1)
        return _outputs(self, x)


class WideAttributeHead(nn.Module):
    """MTL_MRCNN's head: 3x3, 3x3 and 5x5 convolutions of 1024 features, unpadded, pooled by 2
    between.

    It wants regions of 28 x 28 and costs 2.8 GMAC for each. Source: Mirzaee Bafti et al., IEEE
    Access 10 (2022), and the published code.
    """

    outputs: Mapping[str, int]
    channels: int
    dropout: float
    norm: str
    norm_eps: float
    train: bool
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "R S S C"], valid: Bool[Array, "R"]
    ) -> dict[str, Float[Array, "R O"]]:
        for i, size in enumerate((3, 3, 5)):
            bias = self.norm == "none"
            none = ((0, 0), (0, 0))
            x = Conv(self.channels, size, 1, bias, none, dtype=self.dtype, name=f"conv{i + 1}")(x)
            if i < 2:
                x = nn.max_pool(x, (2, 2), (2, 2))
            norm = make_norm(self.norm, self.train, self.norm_eps, self.dtype)
            x = nn.relu(norm(name=f"norm{i + 1}")(x, valid))
        return _outputs(self, x.reshape(x.shape[0], -1))


def _outputs(head: AttributeHead | WideAttributeHead, x: Float[Array, "R F"]) -> dict[str, Array]:
    """Give each attribute its own hidden layer (where the head has one) and output layer, the
    output in float32.
    """
    outputs = {}
    for name, size in head.outputs.items():
        y = x
        if isinstance(head, AttributeHead):
            y = nn.relu(nn.Dense(head.features, dtype=head.dtype, name=f"{name}_hidden")(y))
        y = nn.Dropout(head.dropout, deterministic=not head.train)(y)
        y = nn.Dense(size, kernel_init=nn.initializers.normal(0.01), name=f"{name}_output")(
            y.astype(jnp.float32)
        )
        outputs[name] = y
    return outputs
