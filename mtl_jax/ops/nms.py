"""Exact greedy non-maximum suppression in a few parallel rounds."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Bool, Float, Int

from mtl_jax.ops.boxes import iou
from mtl_jax.types import Array


def nms(
    boxes: Float[Array, "N 4"],
    scores: Float[Array, "N"],
    valid: Bool[Array, "N"],
    iou_threshold: float | Float[Array, ""],
    max_outputs: int,
    groups: Int[Array, "N"] | None = None,
) -> tuple[Int[Array, "D"], Bool[Array, "D"]]:
    """Keep each box that overlaps no better kept box by more than `iou_threshold`.

    Gives the indices of the `max_outputs` best kept boxes by falling score, and which of these
    slots are filled (index 0 stands in the others). Equal scores rank by index; a NaN score is
    never kept. Boxes of different `groups` (classes, levels) do not suppress each other.
    """
    count = boxes.shape[0]
    usable = valid & ~jnp.isnan(scores)
    order = jnp.argsort(jnp.where(usable, -scores, jnp.inf), stable=True)
    boxes = jnp.where(usable[:, None], boxes, 0.0)[order]
    usable = usable[order]
    suppresses = iou(boxes, boxes) > iou_threshold
    if groups is not None:
        group = jnp.asarray(groups)[order]
        suppresses &= group[:, None] == group
    suppresses &= jnp.arange(count)[:, None] < jnp.arange(count)
    keep = _fixed_point(suppresses, usable)
    return _first(order, keep, max_outputs)


def _fixed_point(suppresses: Bool[Array, "N N"], usable: Bool[Array, "N"]) -> Bool[Array, "N"]:
    """Iterate keep = usable and suppressed by none that is kept.

    As a box is suppressed by earlier ones alone, the fixed point is unique: the greedy result.
    Round t settles at least the boxes whose chain of suppressors is shorter than t, so it is
    reached after a few rounds on real boxes, after N at worst.
    """

    def update(state: tuple[Array, Array]) -> tuple[Array, Array]:
        keep, _ = state
        new = usable & ~jnp.any(suppresses & keep[:, None], axis=0)
        return new, jnp.any(new != keep)

    return lax.while_loop(lambda state: state[1], update, (usable, jnp.any(usable)))[0]


def _first(order: Array, keep: Array, max_outputs: int) -> tuple[Array, Array]:
    rank = jnp.where(keep, jnp.cumsum(keep) - 1, max_outputs)
    index = jnp.zeros(max_outputs, jnp.int32).at[rank].set(order.astype(jnp.int32), mode="drop")
    return index, jnp.arange(max_outputs) < jnp.sum(keep)
