"""Head of landmarks: outputs are x, y and the logit of the visibility of each point.

Positions are relative to the centre of the region's box, in units of its sides.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from mtl_jax import losses
from mtl_jax.attributes.landmarks import Landmarks
from mtl_jax.models.attribute_heads.base import SMOOTH_L1_BETA, Head
from mtl_jax.types import Array, Term


class LandmarksHead(Head[Landmarks]):
    def sums(
        self,
        outputs: Float[Array, "R O"],
        values: Float[Array, "R V"],
        known: Bool[Array, "R V"],
        boxes: Float[Array, "R 4"],
    ) -> Term:
        points, seen = _points(outputs), _points(values)
        targets = relative_places(seen[..., :2], boxes)
        place = losses.regression(self.attribute.loss, points[..., :2], targets, SMOOTH_L1_BETA)
        visible = losses.binary_cross_entropy(points[..., 2], seen[..., 2])
        known_places, known_visible = _points(known)[..., :2], _points(known)[..., 2]
        return (
            losses.masked_sum(place, known_places),
            losses.masked_sum(visible, known_visible),
        )

    def decode(
        self, outputs: Float[Array, "R O"], boxes: Float[Array, "R 4"]
    ) -> Float[Array, "R E"]:
        points = _points(outputs)
        visible = jax.nn.sigmoid(points[..., 2:])
        return jnp.concatenate([points[..., :2], visible], -1).reshape(outputs.shape)

    def place(
        self, predictions: Float[Array, "R E"], boxes: Float[Array, "R 4"]
    ) -> Float[Array, "R E"]:
        points = _points(predictions)
        places = points[..., :2] * _sides(boxes) + _centres(boxes)
        return jnp.concatenate([places, points[..., 2:]], -1).reshape(predictions.shape)


def relative_places(
    places: Float[Array, "R J 2"], boxes: Float[Array, "R 4"]
) -> Float[Array, "R J 2"]:
    """Return places relative to the centre of their box, in units of its sides."""
    return (places - _centres(boxes)) / _sides(boxes)


def _points(flat: Array) -> Array:
    return flat.reshape(flat.shape[0], -1, 3)


def _centres(boxes: Float[Array, "R 4"]) -> Float[Array, "R 1 2"]:
    return ((boxes[:, :2] + boxes[:, 2:]) / 2)[:, None]


def _sides(boxes: Float[Array, "R 4"]) -> Float[Array, "R 1 2"]:
    return jnp.maximum(boxes[:, 2:] - boxes[:, :2], 1.0)[:, None]
