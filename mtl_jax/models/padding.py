"""The part of a padded image that a network uses, and its feature pyramid.

An image is at the top left of its padded image. The network uses the image and zeros up to the next
multiple of `size_divisible`, as torchvision pads a single image. Cells beyond are 0 after every
layer and have no anchors. Therefore the padded size does not change an image's results.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from mtl_jax.types import Array, Inputs


class Pyramid(NamedTuple):
    """The feature maps of a batch, or of one image, from fine to coarse: P2, P3, ..."""

    levels: tuple[Float[Array, "*B Hl Wl C"], ...]  # 0 where not inside
    inside: tuple[Bool[Array, "*B Hl Wl"], ...]
    extent: Int[Array, "*B 2"]  # height, width of the part that is used, in pixels
    cells: Int[Array, "*B L 2"]  # rows, columns of each level that are inside


def outline(inputs: Inputs, divisible: int, strides: Sequence[int]) -> Pyramid:
    """Return the pyramid of a batch without its maps, for levels with `strides` in pixels."""
    padded = inputs.images.shape[1:3]
    extent = seen_extent(inputs.sizes, padded, divisible)
    inside = is_inside(extent, inputs.valid, padded)
    cells = -(-extent[:, None, :] // np.array(strides, np.int32)[:, None])
    return Pyramid((), tuple(inside[:, ::stride, ::stride] for stride in strides), extent, cells)


def seen_extent(
    sizes: Float[Array, "B 2"], padded: tuple[int, int], divisible: int
) -> Int[Array, "B 2"]:
    """Return the height and width of the used part of padded images.

    It extends from the top left to the next multiple of `divisible`; with `divisible` 0 it is the
    whole padded image.
    """
    whole = jnp.broadcast_to(jnp.array(padded, jnp.int32), sizes.shape)
    if not divisible:
        return whole
    return jnp.minimum((jnp.ceil(sizes / divisible) * divisible).astype(jnp.int32), whole)


def is_inside(
    extent: Float[Array, "B 2"] | Int[Array, "B 2"],
    valid: Bool[Array, "B"],
    padded: tuple[int, int],
) -> Bool[Array, "B H W"]:
    """Return which pixels of padded images are within the `extent` of a valid image."""
    rows = jnp.arange(padded[0])[None, :] < extent[:, :1]
    columns = jnp.arange(padded[1])[None, :] < extent[:, 1:]
    return rows[:, :, None] & columns[:, None, :] & valid[:, None, None]


def normalize(
    inputs: Inputs, mean: tuple[float, ...], std: tuple[float, ...]
) -> Float[Array, "B H W C"]:
    """Return (value / 255 - mean) / std for each pixel of the images, and 0 for the padding."""
    images = (inputs.images.astype(jnp.float32) / 255 - jnp.array(mean)) / jnp.array(std)
    inside = is_inside(inputs.sizes, inputs.valid, inputs.images.shape[1:3])
    return jnp.where(inside[..., None], images, 0.0)
