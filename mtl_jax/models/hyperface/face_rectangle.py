"""Regression of a face's annotated box from its landmarks, updated during training.

Data sets define face boxes differently, for example from brows to chin or with all of the hair.
Detection converts landmarks to boxes as defined by the training data. A constant rectangle is not
sufficient: in a profile, the landmarks are close together and the head is behind them. The
regression is fitted to predicted landmarks, not to annotated ones, because predicted landmarks are
biased towards the mean face, and their rectangles would have the same bias.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from mtl_jax.config.options.hyperface import HyperFaceOptions
from mtl_jax.models.hyperface.losses import placed_points
from mtl_jax.ops.face_box import (
    Similarity,
    deviations,
    find_rectangle,
    fit_similarity,
    place_rectangle,
)
from mtl_jax.ops.landmark_nms import median
from mtl_jax.types import Array, Batch, Variables

NAME = "face_rectangle"  # key in batch_stats of the arrays of FaceRectangle and Moments
MOMENTUM = 0.98
MARGIN = 1.0  # pixels; a box this close to the region's border may be truncated
# Variance, in template units, that points predicted on new images have in addition to that on
# training images. It regularises the regression, which would otherwise fit the points' errors.
NOISE = 0.003
FAR = 20.0  # limit of rectangles in template units; points of an untrained network are arbitrary


class FaceRectangle(NamedTuple):
    """Linear regression of a face's rectangle on its shape, F = 3 J numbers."""

    shape: Float[Array, "F"]  # of the mean face
    rectangle: Float[Array, "4"]  # of the mean face, as defined in `ops.face_box`
    slopes: Float[Array, "F 4"]

    def place(
        self,
        template: Float[Array, "J 2"],
        points: Float[Array, "R J 2"],
        counts: Bool[Array, "R J"],
    ) -> Float[Array, "R 4"]:
        """Return the boxes of faces, computed from the points where `counts` is True."""
        similarity, shapes = _shapes(template, points, counts)
        return place_rectangle(similarity, self.rectangle + (shapes - self.shape) @ self.slopes)


class Moments(NamedTuple):
    """Running means of the products of shapes with shapes and with rectangles."""

    squares: Float[Array, "F F"]
    products: Float[Array, "F 4"]
    batches: Float[Array, ""]  # number of batches averaged


def first_rectangle(options: HyperFaceOptions) -> Variables:
    """Return the initial statistics: the template's bounding box, extended above the brows."""
    low, high = np.min(options.template, 0), np.max(options.template, 0)
    low = low - np.array([0.0, 0.25]) * (high - low)
    size = 3 * len(options.template)
    own = np.r_[(low + high) / 2, high - low].astype(np.float32)
    face = FaceRectangle(jnp.zeros(size), jnp.asarray(own), jnp.zeros((size, 4)))
    moments = Moments(jnp.zeros((size, size)), jnp.zeros((size, 4)), jnp.zeros(()))
    return {NAME: face._asdict() | moments._asdict()}


def rectangle_of(variables: Variables) -> FaceRectangle:
    """Read the regression from a model's variables."""
    stats = variables["batch_stats"][NAME]
    return FaceRectangle(*(stats[field] for field in FaceRectangle._fields))


def follow(
    stats: Variables, found: Float[Array, "R J 3"], batch: Batch, options: HyperFaceOptions
) -> Variables:
    """Update the regression with a batch of regions, and return the new statistics.

    `found` are the predicted landmarks: x, y, visible. Only faces whose box is entirely inside the
    region are used.
    """
    found = jax.lax.stop_gradient(found)
    counts = placed_points(found, options.hidden_points)
    boxes = batch.gt.boxes[:, 0]
    inside = (boxes >= MARGIN).all(-1) & (boxes <= options.input_size - MARGIN).all(-1)
    shown = batch.valid & batch.gt.valid[:, 0] & inside
    shown &= counts.sum(1) >= options.detection.min_visible
    template = jnp.asarray(options.template, jnp.float32)
    similarity, shapes = _shapes(template, found[..., :2], counts)
    rectangles = jnp.clip(find_rectangle(similarity, boxes), -FAR, FAR)
    rectangles = _without_outliers(rectangles, shown)
    return {NAME: _moved(stats[NAME], shapes, rectangles, shown)}


def _shapes(
    template: Float[Array, "J 2"], points: Float[Array, "R J 2"], counts: Bool[Array, "R J"]
) -> tuple[Similarity, Float[Array, "R F"]]:
    """Fit the template to faces; return the similarities and the faces' shapes.

    A shape is the residuals of the points, and which points count.
    """
    points = jnp.where(counts[..., None], points, 0.0)
    weights = counts.astype(jnp.float32)
    similarity = fit_similarity(template, points, weights)
    each = jnp.clip(deviations(similarity, template, points, weights), -1, 1)
    return similarity, jnp.concatenate([each.reshape(len(points), -1), weights], -1)


def _without_outliers(
    rectangles: Float[Array, "R 4"], shown: Bool[Array, "R"]
) -> Float[Array, "R 4"]:
    """Clip rectangles to half a side around their median; few points define no reliable scale."""
    middle = median(rectangles[None], shown[None])[0]
    reach = jnp.abs(jnp.tile(middle[2:], 2)) / 2
    return jnp.clip(rectangles, middle - reach, middle + reach)


def _moved(
    stats: Variables,
    shapes: Float[Array, "R F"],
    rectangles: Float[Array, "R 4"],
    shown: Bool[Array, "R"],
) -> Variables:
    """Add a batch to the running means, and solve the ridge regression for the slopes."""
    weights = shown / jnp.maximum(shown.sum(), 1)
    weighted = weights[:, None] * shapes
    new = {
        "shape": weighted.sum(0),
        "rectangle": weights @ rectangles,
        "squares": weighted.T @ shapes,
        "products": weighted.T @ rectangles,
    }
    # The first batches are averaged with equal weights; the initial values have no weight.
    momentum = jnp.minimum(MOMENTUM, stats["batches"] / (stats["batches"] + 1))
    moved = {name: momentum * stats[name] + (1 - momentum) * value for name, value in new.items()}
    shape = moved["shape"]
    covariance = moved["squares"] - shape[:, None] * shape + NOISE * jnp.eye(len(shape))
    slopes = jnp.linalg.solve(covariance, moved["products"] - shape[:, None] * moved["rectangle"])
    moved |= {"slopes": slopes, "batches": stats["batches"] + 1}
    return {name: jnp.where(shown.any(), moved[name], old) for name, old in stats.items()}
