"""The rectangle of a face by its landmarks: what HyperFace takes from AFLW's FaceRectCalculator.

A template of the J points is laid over a face's own by the similarity (shift, turn, scale) of least
squares; the face's rectangle, known in the template's coordinates, goes along. It is shifted and
scaled, not turned: annotated boxes stay upright when a head does not. A similarity is sure of few
points, where the homographies of published ports tear profiles apart. What it leaves of the points
tells a profile, whose rectangle is another.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Float

from mtl_jax.types import Array

TINY = 1e-9  # of weights and of squares of template units; less says nothing of scale


class Similarity(NamedTuple):
    """x' = [[cos, -sin], [sin, cos]] x + shift, of the template's points; cos and sin hold the
    scale.
    """

    cos: Float[Array, "*R"]
    sin: Float[Array, "*R"]
    shift: Float[Array, "*R 2"]

    @property
    def scale(self) -> Float[Array, "*R"]:
        return jnp.hypot(self.cos, self.sin)


def fit_similarity(
    template: Float[Array, "J 2"], points: Float[Array, "R J 2"], weights: Float[Array, "R J"]
) -> Similarity:
    """Lay the template over points so that the weighted squares of what is left are least.

    Where fewer than two points have weight the scale is 0.
    Source: Umeyama, Least-squares estimation of transformation parameters, 1991: in the plane a
    quotient of complex numbers.
    """
    total = jnp.maximum(weights.sum(-1), TINY)[:, None]
    point_means = jnp.einsum("rj,rjd->rd", weights, points) / total
    template_means = jnp.einsum("rj,jd->rd", weights, template) / total
    p = points - point_means[:, None]
    t = template - template_means[:, None]
    squares = (weights * (t**2).sum(-1)).sum(-1)
    some = squares > TINY
    squares = jnp.where(some, squares, 1)
    dot = (weights * (t * p).sum(-1)).sum(-1)
    cross = (weights * (t[..., 0] * p[..., 1] - t[..., 1] * p[..., 0])).sum(-1)
    cos, sin = jnp.where(some, dot / squares, 0), jnp.where(some, cross / squares, 0)
    turned = _turn(cos, sin, template_means)
    return Similarity(cos, sin, point_means - turned)


def deviations(
    similarity: Similarity,
    template: Float[Array, "J 2"],
    points: Float[Array, "R J 2"],
    weights: Float[Array, "R J"],
) -> Float[Array, "R J 2"]:
    """Give what the similarity leaves of each point, in the template's coordinates, times its
    weight; 0 where the scale is 0.
    """
    back = _inverse_turn(similarity, points - similarity.shift[:, None])
    some = (similarity.scale > TINY)[:, None] & (weights > 0)
    return jnp.where(some[..., None], (back - template) * weights[..., None], 0)


def place_rectangle(similarity: Similarity, rectangles: Float[Array, "R 4"]) -> Float[Array, "R 4"]:
    """Give the boxes of faces; of rectangles the centre's x and y, the width and the height, in the
    template's coordinates.
    """
    centres = _turn(similarity.cos, similarity.sin, rectangles[:, :2]) + similarity.shift
    half = 0.5 * similarity.scale[:, None] * rectangles[:, 2:]
    return jnp.concatenate([centres - half, centres + half], -1)


def find_rectangle(similarity: Similarity, boxes: Float[Array, "R 4"]) -> Float[Array, "R 4"]:
    """Give the rectangles that `place_rectangle` makes these boxes of; 0 where the scale is 0."""
    some = similarity.scale > TINY
    sides = (boxes[:, 2:] - boxes[:, :2]) / jnp.where(some, similarity.scale, 1)[:, None]
    offset = (boxes[:, :2] + boxes[:, 2:]) / 2 - similarity.shift
    centres = _inverse_turn(similarity, offset[:, None])[:, 0]
    return jnp.where(some[:, None], jnp.concatenate([centres, sides], -1), 0)


def _inverse_turn(similarity: Similarity, xy: Float[Array, "R n 2"]) -> Float[Array, "R n 2"]:
    scale = jnp.where(similarity.scale > TINY, similarity.scale, 1)
    cos, sin = (x / scale**2 for x in (similarity.cos, similarity.sin))
    return _turn(cos[:, None], -sin[:, None], xy)


def _turn(cos: Float[Array, "..."], sin: Float[Array, "..."], xy: Float[Array, "... 2"]) -> Array:
    x, y = xy[..., 0], xy[..., 1]
    return jnp.stack([cos * x - sin * y, sin * x + cos * y], -1)
