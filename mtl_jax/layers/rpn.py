"""The region proposal head. Source: Ren et al., Faster R-CNN, 2015."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Bool, Float

from mtl_jax.layers.conv import Conv
from mtl_jax.types import Array

SMALL_NORMAL = nn.initializers.normal(0.01)


class RpnHead(nn.Module, kw_only=True):
    """Score and refine A anchors at each cell of each level, with shared weights."""

    anchors_per_cell: int
    convs: int
    dtype: DTypeLike = jnp.float32
    channels: int = 0  # of the hidden convolutions; 0: as many as the pyramid

    @nn.compact
    def __call__(
        self, pyramid: Sequence[Float[Array, "B _ _ C"]], inside: Sequence[Bool[Array, "B _ _"]]
    ) -> tuple[Float[Array, "B N"], Float[Array, "B N 4"]]:
        """Return objectness logits and box deltas in float32, by level, row, column and anchor.

        Cells outside `inside` are read as 0 by those inside; their own outputs are undefined.
        """
        channels = self.channels or pyramid[0].shape[-1]
        hidden = [
            Conv(channels, kernel_init=SMALL_NORMAL, dtype=self.dtype, name=f"conv{i + 1}")
            for i in range(self.convs)
        ]
        objectness = Conv(
            self.anchors_per_cell, 1, kernel_init=SMALL_NORMAL, dtype=self.dtype, name="objectness"
        )
        deltas = Conv(
            4 * self.anchors_per_cell, 1, kernel_init=SMALL_NORMAL, dtype=self.dtype, name="deltas"
        )
        logits, boxes = [], []
        for x, within in zip(pyramid, inside, strict=True):
            for layer in hidden:
                x = jnp.where(within[..., None], nn.relu(layer(x)), 0)
            logits.append(objectness(x).reshape(x.shape[0], -1))
            boxes.append(deltas(x).reshape(x.shape[0], -1, 4))
        return (
            jnp.concatenate(logits, 1).astype(jnp.float32),
            jnp.concatenate(boxes, 1).astype(jnp.float32),
        )
