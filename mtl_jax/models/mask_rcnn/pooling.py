"""Pooling of regions of the pyramid to arrays of one size, for the heads."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Float

from mtl_jax.config.options.mask_rcnn import MaskRCNNOptions
from mtl_jax.models.padding import Pyramid
from mtl_jax.ops.roi_align import multilevel_crop, multilevel_roi_align, roi_levels
from mtl_jax.types import Array


def pool_regions(
    pyramid: Pyramid,
    boxes: Float[Array, "B R 4"],
    size: int,
    strides: Sequence[int],
    options: MaskRCNNOptions,
) -> Float[Array, "B R s s C"]:
    """Return the features in each box, resampled to `size` x `size` cells.

    Each box is read from one of the first levels, whose `strides` are given in pixels.
    """
    o, inclusive, count = options.roi, options.inclusive_boxes, len(strides)
    first, last = (strides[i].bit_length() - 1 for i in (0, -1))  # stride 4 is level 2

    def pool(pyramid: Pyramid, boxes: Float[Array, "R 4"]) -> Float[Array, "R s s C"]:
        levels, cells = pyramid.levels[:count], pyramid.cells[:count]
        far_edges = strides[0] * cells[0] - inclusive  # of a box that covers the whole first level
        # The level depends on the part of the image that a box covers, not on its pixels.
        part = jnp.prod(far_edges / (strides[0] * cells[0]))
        canonical_size = o.canonical_size * jnp.sqrt(part)
        chosen = roi_levels(boxes, first, last, canonical_size, o.canonical_level, o.round_level)
        if o.corner_samples:
            return multilevel_crop(levels, boxes, chosen, far_edges, size, cells)
        return multilevel_roi_align(
            levels, boxes, chosen, strides, size, o.sampling_ratio, o.aligned, cells
        )

    return jax.vmap(pool)(pyramid, boxes)
