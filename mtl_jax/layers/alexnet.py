"""AlexNet's convolutions, and HyperFace's fusion of three of its maps.

Sources: Krizhevsky et al., 2012, as used in Girshick et al.'s R-CNN; Ranjan et al., HyperFace, 2016
(https://arxiv.org/abs/1603.01249), figure 2. Two variants: `paper` has local response norms after
the first two poolings; `repository` has the batch norms of the Keras implementation
https://github.com/pasrichashivam/hyperface_deep_multi-task-learning_keras_implementation and no
activation after the fusion.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Bool, Float

from mtl_jax.layers.conv import Conv
from mtl_jax.layers.norm import make_norm
from mtl_jax.ops.pooling import max_pool
from mtl_jax.ops.response_norm import local_response_norm
from mtl_jax.types import Array

EPSILON = 1e-3  # of Keras's batch norms
NOT_PADDED = ((0, 0), (0, 0))
CONVS = ((96, 11, 4), (256, 5, 1), (384, 3, 1), (384, 3, 1), (256, 3, 1))  # features, size, stride
FUSED_FEATURES = 256 / 96  # of a fused map, as a multiple of `width`


class AlexNet(nn.Module, kw_only=True):
    """AlexNet's maps pool1 (27 x 27), conv3 (13 x 13) and pool5 (6 x 6) of 227 x 227 regions.

    `width` is the number of features of conv1, 96 in AlexNet; the other layers scale with it.
    `pool2` is the window size of the second pooling. Children are named conv1 .. conv5 and norm1 ..
    norm5.
    """

    variant: str
    width: int
    pool2: int
    train: bool
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "R H W C"], valid: Bool[Array, "R"]
    ) -> tuple[Float[Array, "R _ _ _"], ...]:
        maps = []
        for i, (features, size, stride) in enumerate(CONVS, start=1):
            features = features * self.width // CONVS[0][0]
            padding = NOT_PADDED if i == 1 else None
            conv = Conv(features, size, stride, padding=padding, dtype=self.dtype, name=f"conv{i}")
            x = nn.relu(conv(x))
            if i in (1, 2, 5):
                window = self.pool2 if i == 2 else 3
                x = max_pool(x, window)
            if self.variant == "repository":
                norm = make_norm("batch", self.train, EPSILON, self.dtype)
                x = norm(name=f"norm{i}")(x, valid)
            elif i <= 2:
                x = local_response_norm(x)
            maps.append(x)
        return maps[0], maps[2], maps[4]


class AlexNetFusion(nn.Module, kw_only=True):
    """Fuse pool1, conv3 and pool5 into one map of 6 x 6.

    Strided convolutions reduce pool1 and conv3 to 6 x 6. The three maps are concatenated, and a
    1 x 1 convolution reduces them to `channels`.
    """

    variant: str
    width: int
    channels: int
    train: bool
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        pool1: Float[Array, "R _ _ _"],
        conv3: Float[Array, "R _ _ _"],
        pool5: Float[Array, "R h w _"],
        valid: Bool[Array, "R"],
    ) -> Float[Array, "R h w C"]:
        conv1a = self._reduce(pool1, 4, "1a", valid)
        conv3a = self._reduce(conv3, 2, "3a", valid)
        fused = self._norm(jnp.concatenate([conv1a, conv3a, pool5], -1), "_fused", valid)
        fused = Conv(self.channels, 1, dtype=self.dtype, name="conv_all")(fused)
        return fused if self.variant == "repository" else nn.relu(fused)

    def _reduce(self, x: Array, stride: int, name: str, valid: Array) -> Array:
        """Convolve with adjacent, non-overlapping windows of `stride` x `stride`."""
        features = round(FUSED_FEATURES * self.width)
        conv = Conv(
            features, stride, stride, padding=NOT_PADDED, dtype=self.dtype, name=f"conv{name}"
        )
        return self._norm(nn.relu(conv(x)), name, valid)

    def _norm(self, x: Array, name: str, valid: Array) -> Array:
        if self.variant != "repository":
            return x
        norm = make_norm("batch", self.train, EPSILON, self.dtype)
        return norm(name=f"norm{name}")(x, valid)
