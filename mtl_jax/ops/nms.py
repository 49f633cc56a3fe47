"""Exact greedy non-maximum suppression in a few parallel rounds."""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Bool, Float, Int

from mtl_jax.ops.boxes import iou
from mtl_jax.types import Array

Overlap = Callable[[Float[Array, "N 4"], Float[Array, "M 4"]], Float[Array, "N M"]]


def nms(
    boxes: Float[Array, "N 4"],
    scores: Float[Array, "N"],
    valid: Bool[Array, "N"],
    threshold: float | Float[Array, ""],
    max_outputs: int,
    groups: Int[Array, "N"] | None = None,
    runs: Sequence[int] = (),
    overlap: Overlap = iou,
) -> tuple[Int[Array, "D"], Bool[Array, "D"]]:
    """Keep each box whose `overlap` with every better kept box is at most `threshold`.

    Return the indices of the `max_outputs` best kept boxes by descending score, and which of these
    slots are filled (the index is 0 in the others). Equal scores are ranked by index; a box with a
    NaN score is never kept. Boxes of different `groups` (classes) do not suppress each other.
    `runs` are the lengths of consecutive blocks (levels), with sum N; boxes of different blocks are
    not compared.
    """
    ends = np.cumsum(runs)[:-1]
    arrays = [boxes, scores, valid & ~jnp.isnan(scores)]
    arrays += [] if groups is None else [jnp.asarray(groups)]
    pieces = zip(*(jnp.split(array, ends) for array in arrays), strict=True)
    keep = jnp.concatenate([_survivors(overlap, threshold, *piece) for piece in pieces])
    order = jnp.argsort(jnp.where(keep, -scores, jnp.inf), stable=True)[:max_outputs]
    missing = max_outputs - len(order)
    filled = jnp.pad(keep[order], (0, missing))
    return jnp.where(filled, jnp.pad(order.astype(jnp.int32), (0, missing)), 0), filled


def _survivors(
    overlap: Overlap,
    threshold: float | Float[Array, ""],
    boxes: Float[Array, "N 4"],
    scores: Float[Array, "N"],
    usable: Bool[Array, "N"],
    groups: Int[Array, "N"] | None = None,
) -> Bool[Array, "N"]:
    count = len(boxes)
    order = jnp.argsort(jnp.where(usable, -scores, jnp.inf), stable=True)
    boxes = jnp.where(usable[:, None], boxes, 0.0)[order]
    suppresses = overlap(boxes, boxes) > threshold
    if groups is not None:
        suppresses &= groups[order][:, None] == groups[order]
    suppresses &= jnp.arange(count)[:, None] < jnp.arange(count)
    keep = _fixed_point(suppresses, usable[order])
    return jnp.zeros(count, bool).at[order].set(keep)


def _fixed_point(suppresses: Bool[Array, "N N"], usable: Bool[Array, "N"]) -> Bool[Array, "N"]:
    """Iterate keep = usable and not suppressed by a kept box.

    A box is suppressed only by earlier boxes, so the fixed point is unique: the greedy result.
    Round t settles at least the boxes whose chain of suppressors is shorter than t. Real boxes
    require a few rounds; the worst case is N.
    """

    def update(state: tuple[Array, Array]) -> tuple[Array, Array]:
        keep, _ = state
        new = usable & ~jnp.any(suppresses & keep[:, None], axis=0)
        return new, jnp.any(new != keep)

    return lax.while_loop(lambda state: state[1], update, (usable, jnp.any(usable)))[0]
