"""Regions of the pyramid as arrays of one size, which the heads read."""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from mtl_jax.config.options.mask_rcnn import MaskRCNNOptions
from mtl_jax.models.padding import STRIDES, Pyramid
from mtl_jax.ops.roi_align import multilevel_crop, multilevel_roi_align, roi_levels
from mtl_jax.types import Array

ROI_LEVELS = 4  # regions are read from P2 .. P5


def pool_regions(
    pyramid: Pyramid, boxes: Float[Array, "B R 4"], size: int, options: MaskRCNNOptions
) -> Float[Array, "B R s s C"]:
    """Return what the pyramid holds in each box, resampled to `size` x `size` cells."""
    o, inclusive = options.roi, options.inclusive_boxes

    def pool(pyramid: Pyramid, boxes: Float[Array, "R 4"]) -> Float[Array, "R s s C"]:
        levels, cells = pyramid.levels[:ROI_LEVELS], pyramid.cells[:ROI_LEVELS]
        far_edges = STRIDES[0] * cells[0] - inclusive  # of a box that is all of P2
        # The part of the picture that a box takes decides, not its pixels.
        part = jnp.prod(far_edges / (STRIDES[0] * cells[0]))
        canonical_size = o.canonical_size * jnp.sqrt(part)
        chosen = roi_levels(boxes, 2, 5, canonical_size, o.canonical_level, o.round_level)
        if o.corner_samples:
            return multilevel_crop(levels, boxes, chosen, far_edges, size, cells)
        strides = STRIDES[:ROI_LEVELS]
        return multilevel_roi_align(
            levels, boxes, chosen, strides, size, o.sampling_ratio, o.aligned, cells
        )

    return jax.vmap(pool)(pyramid, boxes)
