"""Face rectangle from landmarks, as HyperFace computes it with AFLW's FaceRectCalculator.

A least-squares similarity (translation, rotation, scale) maps a template of J points to a face's
landmarks. The face rectangle, defined in template coordinates, is translated and scaled with it but
not rotated, because annotated boxes are upright even where heads are tilted. A similarity is stable
with few visible points, whereas the homographies of published ports distort profile faces. Its
residuals identify profile faces, which have a different rectangle.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Float

from mtl_jax.types import Array

TINY = 1e-9  # of weights and squared template units; below it the scale is undefined


class Similarity(NamedTuple):
    """x' = [[cos, -sin], [sin, cos]] x + shift for template points x; cos and sin include the
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
    """Fit the similarity from the template to points with the least weighted squared error.

    The scale is 0 where fewer than two points have weight.
    Source: Umeyama, Least-squares estimation of transformation parameters, 1991. In the plane, the
    solution is a quotient of complex numbers.
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
    """Return the residual of each point in template coordinates, times its weight; 0 where the
    scale is 0.
    """
    back = _inverse_turn(similarity, points - similarity.shift[:, None])
    some = (similarity.scale > TINY)[:, None] & (weights > 0)
    return jnp.where(some[..., None], (back - template) * weights[..., None], 0)


def place_rectangle(similarity: Similarity, rectangles: Float[Array, "R 4"]) -> Float[Array, "R 4"]:
    """Return the face boxes of rectangles (centre x, centre y, width, height) in template
    coordinates.
    """
    centres = _turn(similarity.cos, similarity.sin, rectangles[:, :2]) + similarity.shift
    half = 0.5 * similarity.scale[:, None] * rectangles[:, 2:]
    return jnp.concatenate([centres - half, centres + half], -1)


def find_rectangle(similarity: Similarity, boxes: Float[Array, "R 4"]) -> Float[Array, "R 4"]:
    """Return the rectangles that `place_rectangle` maps to `boxes`; 0 where the scale is 0."""
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
