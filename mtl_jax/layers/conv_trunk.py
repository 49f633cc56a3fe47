"""MaskMTL's convolutions: parallel trunks, optionally connected by cross-stitch units.

Source: MaskMTL (arXiv 2201.03002) and its published code; Misra et al., Cross-stitch Networks for
Multi-task Learning, 2016, eq. 1.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Bool, Float

from mtl_jax.layers.conv import Conv
from mtl_jax.layers.non_local import NonLocal
from mtl_jax.layers.norm import make_norm
from mtl_jax.ops.pooling import max_pool
from mtl_jax.types import Array

# The slope of each stage's leaky ReLU below 0, and its pooling.
SLOPES = (0.3, 0.3, 0.1, 0.1, 0.1)
_largest = partial(max_pool, window=2)
_mean = partial(nn.avg_pool, window_shape=(2, 2), strides=(2, 2))
POOLS = (_largest, _mean, _mean, _largest, _largest)
STITCH = 0.9  # initial weight of a trunk's own map


class ConvStage(nn.Module, kw_only=True):
    """A trunk's stage `number`: 3x3 convolution, norm, leaky ReLU, 2x2 pooling, non-local block."""

    number: int  # from 1
    features: int
    norm: str
    norm_eps: float
    norm_momentum: float
    non_local: bool
    train: bool
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W Ci"], valid: Bool[Array, "B"]
    ) -> Float[Array, "B Ho Wo Co"]:
        init = nn.initializers.glorot_uniform()
        x = Conv(self.features, kernel_init=init, dtype=self.dtype, name="conv")(x)
        norm = make_norm(self.norm, self.train, self.norm_eps, self.dtype)
        x = norm(momentum=self.norm_momentum, name="norm")(x, valid)
        x = nn.leaky_relu(x, SLOPES[self.number - 1])
        x = POOLS[self.number - 1](x)
        if not self.non_local:
            return x
        return NonLocal(self.train, self.norm_eps, self.dtype, name="non_local")(x, valid)


class CrossStitch(nn.Module):
    """Replace each trunk's map by a learned mixture of all trunks' maps, per channel."""

    @nn.compact
    def __call__(
        self, maps: Sequence[Float[Array, "B H W C"]]
    ) -> tuple[Float[Array, "B H W C"], ...]:
        tasks = len(maps)
        own = jnp.eye(tasks)[..., None]
        start = own * STITCH + (1 - own) * (1 - STITCH) / (tasks - 1)

        def init(key: Array, shape: tuple[int, ...]) -> Array:
            del key
            return jnp.broadcast_to(start, shape)

        shares = self.param("shares", init, (tasks, tasks, maps[0].shape[-1]))
        mixed = jnp.einsum("tuc,ubhwc->tbhwc", shares.astype(maps[0].dtype), jnp.stack(maps))
        return tuple(mixed)


class ConvTrunks(nn.Module, kw_only=True):
    """Named trunks; `depths` is the number of stages of each.

    Children are named stage1 .. stage5, and their children as the trunks, so that a training stage
    can select "4+". With `stitched`, a cross-stitch unit follows each stage that two or more trunks
    have.
    """

    depths: Mapping[str, int]
    features: tuple[int, ...]
    norm: str
    norm_eps: float
    norm_momentum: float
    non_local: tuple[int, ...]
    stitched: bool
    train: bool
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "B H W C"], valid: Bool[Array, "B"]
    ) -> dict[str, tuple[Float[Array, "B _ _ _"], ...]]:
        """Return the maps of each trunk's stages."""
        maps: dict[str, tuple[Array, ...]] = dict.fromkeys(self.depths, ())
        at = dict.fromkeys(self.depths, images)
        for number in range(1, max(self.depths.values()) + 1):
            at = {name: at[name] for name, depth in self.depths.items() if depth >= number}
            stage = TrunksStage(
                number=number,
                features=self.features[number - 1],
                norm=self.norm,
                norm_eps=self.norm_eps,
                norm_momentum=self.norm_momentum,
                non_local=number in self.non_local,
                stitched=self.stitched,
                train=self.train,
                dtype=self.dtype,
                name=f"stage{number}",
            )
            at = stage(at, valid)
            maps |= {name: (*maps[name], x) for name, x in at.items()}
        return maps


class TrunksStage(nn.Module, kw_only=True):
    """One stage of all trunks that have it."""

    number: int
    features: int
    norm: str
    norm_eps: float
    norm_momentum: float
    non_local: bool
    stitched: bool
    train: bool
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, at: Mapping[str, Float[Array, "B H W Ci"]], valid: Bool[Array, "B"]
    ) -> dict[str, Float[Array, "B Ho Wo Co"]]:
        make = partial(
            ConvStage,
            number=self.number,
            features=self.features,
            norm=self.norm,
            norm_eps=self.norm_eps,
            norm_momentum=self.norm_momentum,
            non_local=self.non_local,
            train=self.train,
            dtype=self.dtype,
        )
        maps = {name: make(name=name)(x, valid) for name, x in at.items()}
        if self.stitched and len(maps) > 1:
            mixed = CrossStitch(name="stitch")(tuple(maps.values()))
            maps = dict(zip(maps, mixed, strict=True))
        return maps
