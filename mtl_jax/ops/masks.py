"""Mask targets: ground-truth masks resampled to the grid of a region of interest."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Float, Int, UInt8

from mtl_jax.types import Array

MAX_CELLS = 2**26  # mask cells expanded to float32 at a time


def mask_targets(
    masks: UInt8[Array, "M h w"],
    frames: Float[Array, "M 4"],
    boxes: Float[Array, "R 4"],
    gt_index: Int[Array, "R"],
    side: int,
    aligned: bool,
) -> Float[Array, "R side side"]:
    """Average mask `gt_index[r]` over each cell of a `side` x `side` grid on `boxes[r]`.

    Targets are coverage in 0..1. The h x w cells of mask m (coverage in 0..255) span the box
    `frames[m]` (its object's box, or the whole padded image); outside of it the mask is 0. For
    masks of the padded image's size this is torchvision's ROIAlign with an adaptive sampling ratio,
    and `aligned` has the same meaning: if False, samples are half a pixel too far right and down,
    and a box is at least one pixel wide and high. For smaller masks `aligned` refers to pixels of
    the padded image.
    """
    _, height, width = masks.shape
    masks, frames = jnp.asarray(masks), jnp.asarray(frames)

    def resample(region: tuple[Array, Array]) -> Float[Array, "side side"]:
        box, index = region
        frame = frames[index]
        down = _weights(box[1], box[3], frame[1], frame[3], height, side, aligned)
        across = _weights(box[0], box[2], frame[0], frame[2], width, side, aligned)
        mask = masks[index].astype(jnp.float32) / 255
        return down @ mask @ across.T

    regions = (boxes, gt_index)
    at_once = max(1, MAX_CELLS // (height * width))
    if at_once >= len(boxes):
        return jax.vmap(resample)(regions)
    return lax.map(resample, regions, batch_size=at_once)


def _weights(
    start: Float[Array, ""],
    end: Float[Array, ""],
    frame_start: Float[Array, ""],
    frame_end: Float[Array, ""],
    size: int,
    side: int,
    aligned: bool,
) -> Float[Array, "side size"]:
    """Return the weight of each of a mask's `size` cells in each of `side` bins, along one axis."""
    length = end - start if aligned else jnp.maximum(end - start, 1)
    scale = size / jnp.maximum(frame_end - frame_start, 1e-6)  # cells per pixel
    bin_size = length * scale / side
    # One sample per cell. A box within the frame requires at most size / side; a larger box is
    # averaged more coarsely.
    max_samples = 2 * -(-size // side)
    samples = jnp.where(bin_size > 1, jnp.minimum(jnp.ceil(bin_size), max_samples), 1)
    k = jnp.arange(max_samples, dtype=jnp.float32)
    bins = jnp.arange(side, dtype=jnp.float32)[:, None]
    position = (start - frame_start) * scale + (bins + (k + 0.5) / samples) * bin_size
    counted = (k < samples) & (position >= 0) & (position <= size)
    centre = position - 0.5 + (0.0 if aligned else 0.5 * scale)  # a cell's value is at its centre
    centre = jnp.clip(jnp.where(counted, centre, 0), 0, size - 1)
    share = jnp.maximum(0, 1 - jnp.abs(centre[..., None] - jnp.arange(size, dtype=jnp.float32)))
    return jnp.sum(jnp.where(counted[..., None], share, 0), axis=1) / samples
