"""Anchor boxes of a feature pyramid.

Source: Ren et al., Faster R-CNN, 2015; Lin et al., Feature Pyramid Networks, 2016. Order and
rounding match torchvision, because its published weights depend on them.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from mtl_jax.types import Array


def cell_anchors(
    sizes: Sequence[int | float], ratios: Sequence[int | float], rounded: bool = True
) -> Float[Array, "A 4"]:
    """Return one cell's anchors around the origin, ordered by ratio (height / width), then size.

    `sizes` are square roots of areas, in pixels. `rounded` rounds the corners to whole pixels, as
    torchvision does.
    """
    heights = np.sqrt(np.asarray(ratios, np.float32))
    widths = 1 / heights
    scales = np.asarray(sizes, np.float32)
    half_w = (widths[:, None] * scales).reshape(-1)
    half_h = (heights[:, None] * scales).reshape(-1)
    anchors = np.stack([-half_w, -half_h, half_w, half_h], 1) / 2
    return np.round(anchors) if rounded else anchors


def grid_anchors(
    level_shape: tuple[int, int], stride: Int[Array, "2"], cell: Float[Array, "A 4"]
) -> Float[Array, "N 4"]:
    """Return a cell's anchors at every multiple of `stride` (down, across; pixels), row by row.

    N = Hl * Wl * A; the A anchors of a cell are adjacent.
    """
    y, x = jnp.meshgrid(*(jnp.arange(n) for n in level_shape), indexing="ij")
    shifts = (jnp.stack([x, y, x, y], -1) * jnp.tile(stride[::-1], 2)).astype(jnp.float32)
    return (shifts[:, :, None] + cell).reshape(-1, 4)


def pyramid_anchors(
    level_shapes: Sequence[tuple[int, int]],
    strides: Int[Array, "L 2"],
    sizes: Sequence[Sequence[int | float]],
    ratios: Sequence[int | float],
    rounded: bool = True,
) -> Float[Array, "N 4"]:
    """Return the anchors of all levels, finest first.

    `strides` are (down, across) in pixels; torchvision's are the image size // the level's shape.
    `sizes` are the anchor sizes of each level, in pixels.
    """
    levels = zip(level_shapes, strides, sizes, strict=True)
    return jnp.concatenate(
        [
            grid_anchors(shape, stride, cell_anchors(s, ratios, rounded))
            for shape, stride, s in levels
        ]
    )
