"""Boxes `[x1, y1, x2, y2]`: areas, overlaps, and encoding relative to anchors."""

import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from mtl_jax.types import Array

MAX_LOG_SCALE = math.log(1000 / 16)  # a decoded side is at most 62.5 times the anchor's
MIN_SIDE = 1e-6  # pixels; keeps the encoding of degenerate boxes finite
# Added to boxes whose x2 and y2 are the near edges of the last pixel, to include that pixel.
FAR_EDGES = np.array([0, 0, 1, 1], np.float32)
MIN_AREA = 1e-12  # square pixels; smaller counts as 0, as its square would underflow in a gradient


def area(boxes: Float[Array, "*N 4"]) -> Float[Array, "*N"]:
    """Return areas in square pixels; 0 for boxes with swapped corners."""
    sides = jnp.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    return sides[..., 0] * sides[..., 1]


def intersection(a: Float[Array, "N 4"], b: Float[Array, "M 4"]) -> Float[Array, "N M"]:
    """Return the intersection area of each pair, in square pixels."""
    left_top = jnp.maximum(a[:, None, :2], b[:, :2])
    right_bottom = jnp.minimum(a[:, None, 2:], b[:, 2:])
    sides = jnp.maximum(right_bottom - left_top, 0)
    return sides[..., 0] * sides[..., 1]


def iou(a: Float[Array, "N 4"], b: Float[Array, "M 4"]) -> Float[Array, "N M"]:
    """Return the intersection over union of each pair; 0 where the union is empty."""
    common = intersection(a, b)
    return _ratio(common, area(a)[:, None] + area(b) - common)


def smaller_overlap(a: Float[Array, "N 4"], b: Float[Array, "M 4"]) -> Float[Array, "N M"]:
    """Return each pair's intersection over the area of its smaller box; 0 where that area is 0."""
    return _ratio(intersection(a, b), jnp.minimum(area(a)[:, None], area(b)))


def fraction_inside(
    boxes: Float[Array, "N 4"], regions: Float[Array, "M 4"]
) -> Float[Array, "N M"]:
    """Return the fraction of each box inside each region; 0 for a box without area."""
    return _ratio(intersection(boxes, regions), area(boxes)[:, None])


def _ratio(part: Array, whole: Array) -> Array:
    # The inner `where` keeps 0 / 0 out of the gradient; the outer one alone does not.
    some = whole > MIN_AREA
    return jnp.where(some, part / jnp.where(some, whole, 1), 0)


def encode(
    boxes: Float[Array, "*N 4"], anchors: Float[Array, "*N 4"], weights: Sequence[int | float]
) -> Float[Array, "*N 4"]:
    """Encode boxes as deltas (dx, dy, dw, dh) from their anchors, multiplied by `weights`.

    Source: Girshick et al., Rich feature hierarchies, 2014, appendix C.
    """
    centres, sides = _centres_and_sides(boxes)
    anchor_centres, anchor_sides = _centres_and_sides(anchors)
    shift = (centres - anchor_centres) / anchor_sides
    deltas = jnp.concatenate([shift, jnp.log(sides / anchor_sides)], -1)
    return deltas * jnp.asarray(weights, deltas.dtype)


def _centres_and_sides(boxes: Array) -> tuple[Array, Array]:
    sides = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + 0.5 * sides, jnp.maximum(sides, MIN_SIDE)


def decode(
    deltas: Float[Array, "*N 4"],
    anchors: Float[Array, "*#N 4"],
    weights: Sequence[int | float],
    max_log_scale: float = MAX_LOG_SCALE,
) -> Float[Array, "*N 4"]:
    """Decode deltas into boxes, the inverse of `encode`.

    Sides are at most exp(`max_log_scale`) times the anchor's. `anchors` broadcast against `deltas`:
    `[N, K, 4]` deltas take `[N, 1, 4]` anchors.
    """
    deltas = deltas / jnp.asarray(weights, deltas.dtype)
    sides = anchors[..., 2:] - anchors[..., :2]
    centres = anchors[..., :2] + 0.5 * sides + deltas[..., :2] * sides
    half = 0.5 * sides * jnp.exp(jnp.minimum(deltas[..., 2:], max_log_scale))
    return jnp.concatenate([centres - half, centres + half], -1)


def clip(
    boxes: Float[Array, "*N 4"],
    height: int | float | Float[Array, ""],
    width: int | float | Float[Array, ""],
) -> Float[Array, "*N 4"]:
    """Clip boxes to an image of `height` x `width` pixels."""
    far = jnp.stack([jnp.asarray(side, boxes.dtype) for side in (width, height, width, height)])
    return jnp.clip(boxes, 0, far)


def is_larger(boxes: Float[Array, "*N 4"], min_size: int | float) -> Bool[Array, "*N"]:
    """Return whether both sides are at least `min_size` pixels; False for a box with NaN."""
    return jnp.all(boxes[..., 2:] - boxes[..., :2] >= min_size, -1)
