"""Where the annotated box lies about a face's landmarks: a regression that follows the training.

Every data set draws its boxes differently, from brows to chin or with all of the hair; detection
turns landmarks into the boxes of the data that it was trained on. One rectangle for all faces will
not do: a profile's points lie close together, and its head behind them.
It learns from the landmarks that the network finds, not from annotated ones: found ones err alike
on most faces, towards the mean, and their rectangles would too.
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

NAME = "face_rectangle"  # in batch_stats: FaceRectangle's arrays, and Moments'
MOMENTUM = 0.98
MARGIN = 1.0  # pixels from a region's border within which a box may have been cut
# The variance, in template units, that points found on new pictures have beyond those found in
# training: a regression that trusted them would follow their errors.
NOISE = 0.003
FAR = 20.0  # template units that a rectangle never has; a fresh network's points give any


class FaceRectangle(NamedTuple):
    """A face's rectangle by its shape, F = 3 J numbers: linear about the mean face."""

    shape: Float[Array, "F"]
    rectangle: Float[Array, "4"]  # as `ops.face_box` has it
    slopes: Float[Array, "F 4"]

    def place(
        self,
        template: Float[Array, "J 2"],
        points: Float[Array, "R J 2"],
        counts: Bool[Array, "R J"],
    ) -> Float[Array, "R 4"]:
        """Give the boxes of faces by those of their points that count."""
        similarity, shapes = _shapes(template, points, counts)
        return place_rectangle(similarity, self.rectangle + (shapes - self.shape) @ self.slopes)


class Moments(NamedTuple):
    """Running means of shapes' products with each other and with rectangles."""

    squares: Float[Array, "F F"]
    products: Float[Array, "F 4"]
    batches: Float[Array, ""]  # that were averaged


def first_rectangle(options: HyperFaceOptions) -> Variables:
    """Give the statistics of a new model: the template's own box, and what is above the brows."""
    low, high = np.min(options.template, 0), np.max(options.template, 0)
    low = low - np.array([0.0, 0.25]) * (high - low)
    size = 3 * len(options.template)
    own = np.r_[(low + high) / 2, high - low].astype(np.float32)
    face = FaceRectangle(jnp.zeros(size), jnp.asarray(own), jnp.zeros((size, 4)))
    moments = Moments(jnp.zeros((size, size)), jnp.zeros((size, 4)), jnp.zeros(()))
    return {NAME: face._asdict() | moments._asdict()}


def rectangle_of(variables: Variables) -> FaceRectangle:
    stats = variables["batch_stats"][NAME]
    return FaceRectangle(*(stats[field] for field in FaceRectangle._fields))


def follow(
    stats: Variables, found: Float[Array, "R J 3"], batch: Batch, options: HyperFaceOptions
) -> Variables:
    """Move the regression towards what a batch of regions shows: faces whose box is wholly within,
    and the landmarks x, y, visible that are found on them.
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
    """Give how the template lies over faces, and their shapes: how their points differ from it, and
    which of them count.
    """
    points = jnp.where(counts[..., None], points, 0.0)
    weights = counts.astype(jnp.float32)
    similarity = fit_similarity(template, points, weights)
    each = jnp.clip(deviations(similarity, template, points, weights), -1, 1)
    return similarity, jnp.concatenate([each.reshape(len(points), -1), weights], -1)


def _without_outliers(
    rectangles: Float[Array, "R 4"], shown: Bool[Array, "R"]
) -> Float[Array, "R 4"]:
    """Pull rectangles in to half a side about their median: few points may say any scale."""
    middle = median(rectangles[None], shown[None])[0]
    reach = jnp.abs(jnp.tile(middle[2:], 2)) / 2
    return jnp.clip(rectangles, middle - reach, middle + reach)


def _moved(
    stats: Variables,
    shapes: Float[Array, "R F"],
    rectangles: Float[Array, "R 4"],
    shown: Bool[Array, "R"],
) -> Variables:
    """Average a batch in, and solve for the slopes: of least squares, were points noisy."""
    weights = shown / jnp.maximum(shown.sum(), 1)
    weighted = weights[:, None] * shapes
    new = {
        "shape": weighted.sum(0),
        "rectangle": weights @ rectangles,
        "squares": weighted.T @ shapes,
        "products": weighted.T @ rectangles,
    }
    # The first batches are a mean of their own: nothing stays of what stood there before.
    momentum = jnp.minimum(MOMENTUM, stats["batches"] / (stats["batches"] + 1))
    moved = {name: momentum * stats[name] + (1 - momentum) * value for name, value in new.items()}
    shape = moved["shape"]
    covariance = moved["squares"] - shape[:, None] * shape + NOISE * jnp.eye(len(shape))
    slopes = jnp.linalg.solve(covariance, moved["products"] - shape[:, None] * moved["rectangle"])
    moved |= {"slopes": slopes, "batches": stats["batches"] + 1}
    return {name: jnp.where(shown.any(), moved[name], old) for name, old in stats.items()}
