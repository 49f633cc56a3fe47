"""ConvNeXt-T. Source: Liu et al., A ConvNet for the 2020s, 2022."""

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Bool, Float

from mtl_jax.layers.conv import Conv
from mtl_jax.ops.convolution import depthwise_conv
from mtl_jax.types import Array

BLOCKS = (3, 3, 9, 3)
CHANNELS = (96, 192, 384, 768)
EPSILON = 1e-6  # of the layer norms
STOCHASTIC_DEPTH = 0.1  # of the last block; that of the first is 0
LAYER_SCALE = 1e-6  # at initialisation
INIT = nn.initializers.truncated_normal(0.02)


class ConvNeXtTiny(nn.Module):
    """Compute the feature maps C2, C3, C4, C5.

    Children are named as a ResNet's: stem, stage2 .. stage5. A stage from the third on begins with
    its downsampling. Cells beyond `inside` are 0 after every layer.
    """

    strides: ClassVar[tuple[int, ...]] = (4, 8, 16, 32)  # of the maps, in pixels
    train: bool
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "B H W C"], inside: Bool[Array, "B H W"]
    ) -> tuple[Float[Array, "B _ _ _"], ...]:
        stem = Patchify(CHANNELS[0], 4, norm_first=False, dtype=self.dtype, name="stem")
        x, inside = stem(images, inside)
        rates = np.split(np.linspace(0, STOCHASTIC_DEPTH, sum(BLOCKS)), np.cumsum(BLOCKS)[:-1])
        features = []
        for number, (channels, stage_rates) in enumerate(zip(CHANNELS, rates, strict=True), 2):
            stage = Stage(
                channels,
                tuple(stage_rates.tolist()) if self.train else (0.0,) * len(stage_rates),
                dtype=self.dtype,
                name=f"stage{number}",
            )
            x, inside = stage(x, inside)
            features.append(x)
        return tuple(features)


class Stage(nn.Module):
    """Downsampling by 2 if the number of channels changes, then a block for each rate.

    Returns the map and its cells inside the images.
    """

    channels: int
    stochastic_depth: tuple[float, ...]
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W Ci"], inside: Bool[Array, "B H W"]
    ) -> tuple[Float[Array, "B h w Co"], Bool[Array, "B h w"]]:
        if x.shape[-1] != self.channels:
            down = Patchify(self.channels, 2, norm_first=True, dtype=self.dtype, name="down")
            x, inside = down(x, inside)
        for i, rate in enumerate(self.stochastic_depth, start=1):
            x = Block(rate, self.dtype, name=f"block{i}")(x, inside)
        return x, inside


class Patchify(nn.Module):
    """A convolution of disjoint `side` x `side` patches, and a layer norm before or after it.

    Returns the map and its cells inside the images.
    """

    channels: int
    side: int
    norm_first: bool
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W Ci"], inside: Bool[Array, "B H W"]
    ) -> tuple[Float[Array, "B h w Co"], Bool[Array, "B h w"]]:
        norm = nn.LayerNorm(EPSILON, self.dtype, use_fast_variance=False, name="norm")
        if self.norm_first:
            x = jnp.where(inside[..., None], norm(x), 0)
        # A last patch that the map does not fill is filled with zeros.
        missing = [(0, -size % self.side) for size in x.shape[1:3]]
        conv = Conv(
            self.channels,
            self.side,
            self.side,
            padding=missing,
            kernel_init=INIT,
            dtype=self.dtype,
            name="conv",
        )
        x = conv(x)
        x = x if self.norm_first else norm(x)
        inside = inside[:, :: self.side, :: self.side]
        return jnp.where(inside[..., None], x, 0), inside


class Block(nn.Module):
    """A depthwise 7x7 convolution and two dense layers on each cell, added to their input.

    In training the addition is left out for a random image with the probability `stochastic_depth`.
    """

    stochastic_depth: float
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"], inside: Bool[Array, "B H W"]
    ) -> Float[Array, "B H W C"]:
        channels, dtype = x.shape[-1], self.dtype
        kernel = self.param("depthwise_kernel", INIT, (7, 7, channels)).astype(dtype)
        bias = self.param("depthwise_bias", nn.initializers.zeros_init(), (channels,))
        y = depthwise_conv(x, kernel) + bias.astype(dtype)
        y = nn.LayerNorm(EPSILON, dtype, use_fast_variance=False, name="norm")(y)
        y = nn.Dense(4 * channels, dtype=dtype, kernel_init=INIT, name="expand")(y)
        y = nn.gelu(y, approximate=False)
        y = nn.Dense(channels, dtype=dtype, kernel_init=INIT, name="project")(y)
        scale = self.param("layer_scale", nn.initializers.constant(LAYER_SCALE), (channels,))
        drop = nn.Dropout(self.stochastic_depth, broadcast_dims=(1, 2, 3), deterministic=False)
        y = y * scale.astype(dtype)
        y = drop(y) if self.stochastic_depth else y
        return jnp.where(inside[..., None], x + y, 0)
