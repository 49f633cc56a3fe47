"""Head of a pose: outputs are the angles in units of the attribute's scale."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from mtl_jax import losses
from mtl_jax.attributes.pose import Pose
from mtl_jax.models.attribute_heads.base import SMOOTH_L1_BETA, Head
from mtl_jax.types import Array, Term


class PoseHead(Head[Pose]):
    def sums(
        self,
        outputs: Float[Array, "R O"],
        values: Float[Array, "R V"],
        known: Bool[Array, "R V"],
        boxes: Float[Array, "R 4"],
    ) -> Term:
        turn = 360 / self.attribute.scale
        targets = values / self.attribute.scale
        # Shift targets by whole turns towards the outputs: 179 and -179 degrees differ by 2.
        targets += turn * jnp.round((jax.lax.stop_gradient(outputs) - targets) / turn)
        each = losses.regression(self.attribute.loss, outputs, targets, SMOOTH_L1_BETA)
        return (losses.masked_sum(each, known),)

    def decode(
        self, outputs: Float[Array, "R O"], boxes: Float[Array, "R 4"]
    ) -> Float[Array, "R E"]:
        return _wrapped(outputs * self.attribute.scale)

    def mean(self, answers: Sequence[Float[Array, "*B E"]]) -> Float[Array, "*B E"]:
        """Average angles around the circle."""
        first = answers[0]
        return _wrapped(first + sum(_wrapped(answer - first) for answer in answers) / len(answers))


def _wrapped(degrees: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """Wrap angles to -180..180; those in this range are unchanged to the bit."""
    return degrees - 360 * jnp.round(degrees / 360)
