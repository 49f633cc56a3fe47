"""What the network sees of a canvas, and the feature pyramid over it.

A picture lies in the left top corner of its canvas. It counts as padded with zeros to the next
multiple of `size_divisible`, as torchvision pads a picture alone; what lies beyond is 0 after every
layer and holds no anchors. So a picture gives the same on every canvas that holds it.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from mtl_jax.types import Array, Batch

STRIDES = (4, 8, 16, 32, 64)  # of P2 .. P6


class Pyramid(NamedTuple):
    """The maps P2 .. P6 of a batch, or of one image."""

    levels: tuple[Float[Array, "*B Hl Wl C"], ...]  # 0 where not inside
    inside: tuple[Bool[Array, "*B Hl Wl"], ...]
    extent: Int[Array, "*B 2"]  # height, width of what is seen, in pixels

    @property
    def cells(self) -> Int[Array, "*B L 2"]:
        """The rows and columns of each level that are inside."""
        return -(-self.extent[..., None, :] // np.array(STRIDES, np.int32)[:, None])


def outline(batch: Batch, divisible: int) -> Pyramid:
    """Give a batch's pyramid without its maps: what of each level is inside, and the extent."""
    canvas = batch.images.shape[1:3]
    extent = seen_extent(batch.sizes, canvas, divisible)
    inside = is_inside(extent, batch.valid, canvas)
    return Pyramid((), tuple(inside[:, ::stride, ::stride] for stride in STRIDES), extent)


def seen_extent(
    sizes: Float[Array, "B 2"], canvas: tuple[int, int], divisible: int
) -> Int[Array, "B 2"]:
    """Give the height and width that are seen of pictures of `sizes`; with `divisible` 0 the whole
    canvas.
    """
    whole = jnp.broadcast_to(jnp.array(canvas, jnp.int32), sizes.shape)
    if not divisible:
        return whole
    return jnp.minimum((jnp.ceil(sizes / divisible) * divisible).astype(jnp.int32), whole)


def is_inside(
    extent: Float[Array, "B 2"] | Int[Array, "B 2"],
    valid: Bool[Array, "B"],
    canvas: tuple[int, int],
) -> Bool[Array, "B H W"]:
    """Say which pixels lie within `extent` of an image that is valid."""
    rows = jnp.arange(canvas[0])[None, :] < extent[:, :1]
    columns = jnp.arange(canvas[1])[None, :] < extent[:, 1:]
    return rows[:, :, None] & columns[:, None, :] & valid[:, None, None]


def normalize(
    batch: Batch, mean: tuple[float, ...], std: tuple[float, ...]
) -> Float[Array, "B H W C"]:
    """Turn 0..255 into (value / 255 - mean) / std, and what lies beyond the picture into 0."""
    images = (batch.images.astype(jnp.float32) / 255 - jnp.array(mean)) / jnp.array(std)
    inside = is_inside(batch.sizes, batch.valid, batch.images.shape[1:3])
    return jnp.where(inside[..., None], images, 0.0)
