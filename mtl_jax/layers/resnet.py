"""ResNet-18, 34, 50 and 101. Source: He et al., Deep Residual Learning for Image Recognition,
2015.
"""

from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Bool, Float

from mtl_jax.layers.conv import Conv
from mtl_jax.layers.norm import make_norm
from mtl_jax.ops.pooling import max_pool
from mtl_jax.types import Array

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


class Block(nn.Module, kw_only=True):
    """A residual block: two 3x3 convolutions, or a bottleneck (1x1, 3x3, 1x1) with
    4 * `features` outputs.
    """

    features: int
    stride: int
    bottleneck: bool
    stride_in_1x1: bool
    norm: str
    norm_eps: float
    train: bool
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W Ci"], inside: Bool[Array, "B H W"]
    ) -> Float[Array, "B Ho Wo Co"]:
        norm = make_norm(self.norm, self.train, self.norm_eps, self.dtype)
        strided = inside[:, :: self.stride, :: self.stride]

        def conv_norm(
            y: Array, name: str, features: int, size: int, stride: int, mask: Array = strided
        ) -> Array:
            y = Conv(features, size, stride, use_bias=False, dtype=self.dtype, name=f"conv{name}")(
                y
            )
            return norm(name=f"norm{name}")(y, mask)

        out = 4 * self.features if self.bottleneck else self.features
        if self.bottleneck:
            first = self.stride if self.stride_in_1x1 else 1
            mask = inside[:, ::first, ::first]
            y = nn.relu(conv_norm(x, "1", self.features, 1, first, mask))
            y = nn.relu(conv_norm(y, "2", self.features, 3, self.stride // first))
            y = conv_norm(y, "3", out, 1, 1)
        else:
            y = nn.relu(conv_norm(x, "1", self.features, 3, self.stride))
            y = conv_norm(y, "2", out, 3, 1)
        if x.shape != y.shape:
            x = conv_norm(x, "_shortcut", out, 1, self.stride)
        return nn.relu(x + y)


class Stem(nn.Module, kw_only=True):
    """A 7x7 convolution of stride 2 and a 3x3 max pooling of stride 2.

    The pooling is padded by one cell on each side. With `pool_same` it is padded as Keras's "same":
    even sizes are padded only at the end.
    """

    features: int
    norm: str
    norm_eps: float
    train: bool
    dtype: DTypeLike
    pool_same: bool = False

    @nn.compact
    def __call__(
        self, images: Float[Array, "B H W C"], inside: Bool[Array, "B H W"]
    ) -> Float[Array, "B Ho Wo Co"]:
        x = Conv(self.features, 7, 2, use_bias=False, dtype=self.dtype, name="conv1")(images)
        norm = make_norm(self.norm, self.train, self.norm_eps, self.dtype)(name="norm1")
        x = nn.relu(norm(x, inside[:, ::2, ::2]))
        vertical, horizontal = (1, 1), (1, 1)
        if self.pool_same:
            vertical, horizontal = lax.padtype_to_pads(x.shape[1:3], (3, 3), (2, 2), "SAME")
        x = max_pool(x, 3, (vertical, horizontal))
        return jnp.where(inside[:, ::4, ::4, None], x, 0)


class ResNet(nn.Module, kw_only=True):
    """Compute the feature maps C2, C3, C4, C5.

    Children are named stem, stage2 .. stage5, as matterport's res2 .. res5, so that a training
    stage can select "4+". `stride_in_1x1` puts a bottleneck's stride into its first 1x1 (Caffe,
    matterport) instead of its 3x3 (torchvision); `pool_same` is passed to the stem. Cells outside
    `inside` are 0 after every layer, as if the padded image ended there.
    """

    strides: ClassVar[tuple[int, ...]] = (4, 8, 16, 32)  # of the maps, in pixels
    depth: int
    width: int
    norm: str
    norm_eps: float
    stride_in_1x1: bool
    train: bool
    dtype: DTypeLike = jnp.float32
    pool_same: bool = False

    @nn.compact
    def __call__(
        self, images: Float[Array, "B H W C"], inside: Bool[Array, "B H W"]
    ) -> tuple[Float[Array, "B _ _ _"], ...]:
        if self.depth not in BLOCKS:
            raise ValueError(
                f"depth must be one of {', '.join(map(str, BLOCKS))}, got {self.depth}"
            )
        shared: dict[str, Any] = {
            "norm": self.norm,
            "norm_eps": self.norm_eps,
            "train": self.train,
            "dtype": self.dtype,
        }
        stem = Stem(features=self.width, pool_same=self.pool_same, **shared, name="stem")
        x = stem(images, inside)
        inside = inside[:, ::4, ::4]
        features = []
        for stage, blocks in enumerate(BLOCKS[self.depth], start=2):
            stride = 1 if stage == 2 else 2
            x = Stage(
                blocks=blocks,
                features=self.width * 2 ** (stage - 2),
                stride=stride,
                bottleneck=self.depth >= 50,
                stride_in_1x1=self.stride_in_1x1,
                **shared,
                name=f"stage{stage}",
            )(x, inside)
            inside = inside[:, ::stride, ::stride]
            features.append(x)
        return tuple(features)


class Stage(nn.Module, kw_only=True):
    """Blocks of one resolution; the first block applies the stride."""

    blocks: int
    features: int
    stride: int
    bottleneck: bool
    stride_in_1x1: bool
    norm: str
    norm_eps: float
    train: bool
    dtype: DTypeLike

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W Ci"], inside: Bool[Array, "B H W"]
    ) -> Float[Array, "B Ho Wo Co"]:
        for i in range(self.blocks):
            stride = self.stride if i == 0 else 1
            x = Block(
                features=self.features,
                stride=stride,
                bottleneck=self.bottleneck,
                stride_in_1x1=self.stride_in_1x1,
                norm=self.norm,
                norm_eps=self.norm_eps,
                train=self.train,
                dtype=self.dtype,
                name=f"block{i + 1}",
            )(x, inside)
            inside = inside[:, ::stride, ::stride]
        return x
