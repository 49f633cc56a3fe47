"""Landmarks-based non-maximum suppression: a face is a group of regions that agree on it.

Source: Ranjan et al., HyperFace, 2016 (https://arxiv.org/abs/1603.01249), algorithm 2.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Bool, Float, Int

from mtl_jax.ops.boxes import smaller_overlap
from mtl_jax.ops.nms import nms
from mtl_jax.types import Array


class Faces(NamedTuple):
    """D faces by descending score, each with its k best regions, best first."""

    members: Int[Array, "D k"]  # indices of regions; 0 where not valid
    member_valid: Bool[Array, "D k"]
    valid: Bool[Array, "D"]


def precise_boxes(
    points: Float[Array, "N J 2"], counts: Bool[Array, "N J"]
) -> tuple[Float[Array, "N 4"], Bool[Array, "N"]]:
    """Return the bounding boxes of the landmarks that count, and which boxes are valid.

    A valid box has at least two landmarks; the others are all 0.
    """
    low = jnp.where(counts[..., None], points, jnp.inf).min(1)
    high = jnp.where(counts[..., None], points, -jnp.inf).max(1)
    enough = counts.sum(1) >= 2
    return jnp.where(enough[:, None], jnp.concatenate([low, high], -1), 0.0), enough


def group_regions(
    boxes: Float[Array, "N 4"],
    scores: Float[Array, "N"],
    valid: Bool[Array, "N"],
    overlap: float,
    top_k: int,
    max_outputs: int,
) -> Faces:
    """Select faces by greedy NMS of `precise_boxes`, each with its `top_k` best regions.

    A region belongs to the best face whose box shares more than `overlap` of the smaller of the two
    boxes with it: the face that suppresses it. IoU is not suitable, because a region with half a
    face contains only some of its landmarks, and their box is small and lies within the face's.
    Regions of faces beyond `max_outputs` belong to no face.
    """
    kept, filled = nms(boxes, scores, valid, overlap, max_outputs, overlap=smaller_overlap)
    usable = valid & ~jnp.isnan(scores)
    boxes = jnp.where(usable[:, None], boxes, 0)
    touches = (smaller_overlap(boxes[kept], boxes) > overlap) & filled[:, None] & usable
    touches |= (kept[:, None] == jnp.arange(len(boxes))) & filled[:, None]
    owner = jnp.argmax(touches, 0)  # the first: faces are sorted by descending score
    own = touches & (owner == jnp.arange(max_outputs)[:, None])
    best, members = lax.top_k(jnp.where(own, scores, -jnp.inf), min(top_k, len(boxes)))
    member_valid = best > -jnp.inf
    return Faces(jnp.where(member_valid, members, 0).astype(jnp.int32), member_valid, filled)


def median(values: Float[Array, "D k E"], valid: Bool[Array, "D k"]) -> Float[Array, "D E"]:
    """Return the median over k of the valid values; 0 where none is valid.

    For an even count it is the mean of the middle two.
    """
    count = valid.sum(1)[:, None, None]
    ordered = jnp.sort(jnp.where(valid[..., None], values, jnp.inf), axis=1)
    low = jnp.take_along_axis(ordered, jnp.maximum(count - 1, 0) // 2, 1)
    high = jnp.take_along_axis(ordered, jnp.minimum(count // 2, values.shape[1] - 1), 1)
    return jnp.where(count > 0, (low + high) / 2, 0)[:, 0]
