"""Head that predicts attributes from pooled regions."""

from collections.abc import Collection, Mapping

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Bool, Float

from mtl_jax.layers.conv import Conv
from mtl_jax.layers.norm import make_norm
from mtl_jax.layers.output import output_layer
from mtl_jax.ops.pooling import max_pool
from mtl_jax.types import Array


class AttributeHead(nn.Module, kw_only=True):
    """A trunk shared by all attributes, then a hidden layer and an output layer for each.

    The light trunk is `convs` 3x3 convolutions; the last one halves the resolution. The wide one is
    MTL_MRCNN's; as published, with regions of 28 x 28, 1024 channels and no hidden layer
    (`features` 0), it costs 2.8 GMAC per region. Source: Mirzaee Bafti et al., IEEE Access 10
    (2022), and the published code.
    """

    outputs: Mapping[str, int]  # width of each attribute's output
    wide: bool
    convs: int
    channels: int
    features: int
    dropout: float
    norm: str
    norm_eps: float
    train: bool
    dtype: DTypeLike = jnp.float32
    one_score: Collection[str] = ()  # the attributes whose outputs share a score

    @nn.compact
    def __call__(
        self, x: Float[Array, "R S S C"], valid: Bool[Array, "R"]
    ) -> dict[str, Float[Array, "R O"]]:
        x = self._wide_trunk(x, valid) if self.wide else self._light_trunk(x, valid)
        x = x.reshape(x.shape[0], -1)
        outputs = {}
        for name, size in self.outputs.items():
            y = x
            if self.features:
                # Without the norm, a few large steps leave all ReLUs of such a wide layer inactive.
                bias, hidden = self.norm == "none", f"{name}_hidden"
                y = nn.Dense(self.features, bias, dtype=self.dtype, name=hidden)(y)
                y = self._norm_relu(y, f"{name}_norm", valid)
            y = nn.Dropout(self.dropout, deterministic=not self.train)(y).astype(jnp.float32)
            init = nn.initializers.normal(0.01)
            layer = output_layer(size, name in self.one_score, init, f"{name}_output")
            outputs[name] = layer(y)
        return outputs

    def _light_trunk(self, x: Float[Array, "R S S C"], valid: Bool[Array, "R"]) -> Array:
        for i in range(self.convs):
            stride = 2 if i == self.convs - 1 else 1
            x = self._conv(x, 3, stride, f"conv{i + 1}")
            x = self._norm_relu(x, f"norm{i + 1}", valid)
        return x

    def _wide_trunk(self, x: Float[Array, "R S S C"], valid: Bool[Array, "R"]) -> Array:
        for i, size in enumerate((3, 3, 5)):
            x = self._conv(x, size, 1, f"conv{i + 1}", ((0, 0), (0, 0)))
            if i < 2:
                x = max_pool(x, 2)
            x = self._norm_relu(x, f"norm{i + 1}", valid)
        return x

    def _conv(self, x: Array, size: int, stride: int, name: str, padding=None) -> Array:
        bias = self.norm == "none"
        layer = Conv(
            self.channels,
            size,
            stride,
            use_bias=bias,
            padding=padding,
            dtype=self.dtype,
            name=name,
        )
        return layer(x)

    def _norm_relu(self, x: Array, name: str, valid: Bool[Array, "R"]) -> Array:
        norm = make_norm(self.norm, self.train, self.norm_eps, self.dtype)
        return nn.relu(norm(name=name)(x, valid))
