"""Heads on pooled regions: class and box, and mask."""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Bool, Float, Int

from mtl_jax.layers.conv import Conv
from mtl_jax.layers.norm import make_norm
from mtl_jax.types import Array


class BoxHead(nn.Module, kw_only=True):
    """`convs` 3x3 convolutions and `fcs` fully connected layers, then class logits and box deltas
    per class.
    """

    num_classes: int  # K, including the background
    convs: int
    conv_channels: int
    fcs: int
    fc_features: int
    norm: str
    norm_eps: float
    train: bool
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "R S S C"], valid: Bool[Array, "R"]
    ) -> tuple[Float[Array, "R K"], Float[Array, "R K 4"]]:
        """Return class logits and box deltas in float32."""
        norm = make_norm(self.norm, self.train, self.norm_eps, self.dtype)
        for i in range(self.convs):
            bias = self.norm == "none"
            x = Conv(self.conv_channels, use_bias=bias, dtype=self.dtype, name=f"conv{i + 1}")(x)
            x = nn.relu(norm(name=f"norm{i + 1}")(x, valid))
        x = x.reshape(x.shape[0], -1)
        for i in range(self.fcs):
            x = nn.relu(nn.Dense(self.fc_features, dtype=self.dtype, name=f"fc{i + 1}")(x))
        x = x.astype(jnp.float32)
        init = nn.initializers.normal
        logits = nn.Dense(self.num_classes, kernel_init=init(0.01), name="class_logits")(x)
        deltas = nn.Dense(4 * self.num_classes, kernel_init=init(0.001), name="box_deltas")(x)
        return logits, deltas.reshape(-1, self.num_classes, 4)


class MaskHead(nn.Module, kw_only=True):
    """`convs` 3x3 convolutions, a 2x2 deconvolution of stride 2, and one mask per class.

    Only the mask of the requested class is computed; losses and detections read no other.
    """

    num_classes: int
    convs: int
    channels: int
    norm: str
    norm_eps: float
    train: bool
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "R S S C"], classes: Int[Array, "R"], valid: Bool[Array, "R"]
    ) -> Float[Array, "R 2*S 2*S"]:
        """Return the mask logits of each region for its class in `classes`, in float32."""
        for i in range(self.convs):
            bias = self.norm == "none"
            x = Conv(self.channels, use_bias=bias, dtype=self.dtype, name=f"conv{i + 1}")(x)
            norm = make_norm(self.norm, self.train, self.norm_eps, self.dtype)
            x = nn.relu(norm(name=f"norm{i + 1}")(x, valid))
        x = nn.relu(Deconv(self.channels, self.dtype, name="deconv")(x))
        init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
        shape = (self.channels, self.num_classes)
        kernel = self.param("mask_logits_kernel", init, shape).astype(self.dtype)
        bias = self.param("mask_logits_bias", nn.initializers.zeros_init(), shape[1:])
        logits = jnp.einsum("rhwc,rc->rhw", x, kernel.T[classes])
        return logits.astype(jnp.float32) + bias[classes][:, None, None]


class Deconv(nn.Module):
    """A transposed 2x2 convolution of stride 2.

    Its outputs do not overlap, so it is one matrix product per cell.
    """

    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "R H W Ci"]) -> Float[Array, "R 2*H 2*W Co"]:
        r, h, w, channels = x.shape
        init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
        kernel = self.param("kernel", init, (2, 2, channels, self.features))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        flat = kernel.astype(self.dtype).transpose(2, 0, 1, 3).reshape(channels, -1)
        y = (x.reshape(-1, channels) @ flat).reshape(r, h, w, 2, 2, self.features)
        y = y.transpose(0, 1, 3, 2, 4, 5).reshape(r, 2 * h, 2 * w, self.features)
        return y + bias.astype(self.dtype)
