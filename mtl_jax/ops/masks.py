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

    Targets are coverage in 0..1. The h x w cells of mask m span the box `frames[m]` (its object's,
    or the whole canvas), beyond which it is 0. On masks as large as the canvas this is
    torchvision's ROIAlign with its adaptive sampling ratio, and `aligned` as there: without it,
    samples lie half a canvas pixel too far to the right and below, and a box counts as at least a
    pixel wide and high. On smaller masks `aligned` means the same in canvas pixels.
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
    """Give the weight of each of a mask's `size` cells in each of `side` bins, along one axis."""
    length = end - start if aligned else jnp.maximum(end - start, 1)
    scale = size / jnp.maximum(frame_end - frame_start, 1e-6)  # cells a pixel
    bin_size = length * scale / side
    # One sample a cell. A box within the frame needs no more than size / side; larger ones get a
    # coarser average.
    max_samples = 2 * -(-size // side)
    samples = jnp.where(bin_size > 1, jnp.minimum(jnp.ceil(bin_size), max_samples), 1)
    k = jnp.arange(max_samples, dtype=jnp.float32)
    bins = jnp.arange(side, dtype=jnp.float32)[:, None]
    position = (start - frame_start) * scale + (bins + (k + 0.5) / samples) * bin_size
    counted = (k < samples) & (position >= 0) & (position <= size)
    centre = (
        position - 0.5 + (0.0 if aligned else 0.5 * scale)
    )  # a cell's value stands at its centre
    centre = jnp.clip(jnp.where(counted, centre, 0), 0, size - 1)
    share = jnp.maximum(0, 1 - jnp.abs(centre[..., None] - jnp.arange(size, dtype=jnp.float32)))
    return jnp.sum(jnp.where(counted[..., None], share, 0), axis=1) / samples
