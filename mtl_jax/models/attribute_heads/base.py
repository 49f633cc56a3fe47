"""What a kind of attribute requires of a network: how many outputs, which loss, how outputs become
predictions.

The layouts of labels and predictions are those of `mtl_jax.attributes.base`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Bool, Float

from mtl_jax.attributes.base import Attribute
from mtl_jax.ops.landmark_nms import median
from mtl_jax.types import Array, Term

SMOOTH_L1_BETA = 1 / 9  # in units of the range, of `Pose.scale`, of the box's side
Kind = TypeVar("Kind", bound=Attribute)


@dataclass(frozen=True)
class Head(Generic[Kind]):
    """The outputs of one attribute. Subclasses are the kinds."""

    attribute: Kind

    @property
    def output_size(self) -> int:
        """O, the number of outputs that a network computes."""
        return self.attribute.prediction_size

    @property
    def has_one_score(self) -> bool:
        """Whether the outputs share a score and differ by their biases alone."""
        return False

    def make_layers(self, dtype: DTypeLike) -> nn.Module | None:
        """Build the layers that compute this attribute's outputs from the features of regions.

        None, the default: a vector of outputs from layers that the attributes share. Otherwise the
        layers map features `[R, s, s, C]` and valid rows `[R]` to outputs `[R, ...]`, which `loss`
        and `decode` receive.
        """
        return None

    def loss(
        self,
        outputs: Float[Array, "R *O"],
        values: Float[Array, "R V"],
        known: Bool[Array, "R V"],
        boxes: Float[Array, "R 4"],
    ) -> Term:
        """Compute the sums of the loss over the known labels.

        `boxes` are the regions that the outputs were read from: landmarks are relative to them.
        """
        return self.sums(outputs, jnp.where(known, values, 0.0), known, boxes)

    def sums(
        self,
        outputs: Float[Array, "R *O"],
        values: Float[Array, "R V"],
        known: Bool[Array, "R V"],
        boxes: Float[Array, "R 4"],
    ) -> Term:
        """Compute `loss` for values that are 0 where they are not known."""
        raise NotImplementedError

    def decode(
        self, outputs: Float[Array, "R *O"], boxes: Float[Array, "R 4"]
    ) -> Float[Array, "R E"]:
        """Turn outputs of `boxes` into predictions, landmarks in sides of their box from its
        centre.
        """
        raise NotImplementedError

    def place(
        self, predictions: Float[Array, "R E"], boxes: Float[Array, "R 4"]
    ) -> Float[Array, "R E"]:
        """Bring what `decode` gives for `boxes` to pixels of the padded image."""
        return predictions

    def mean(self, answers: Sequence[Float[Array, "*B E"]]) -> Float[Array, "*B E"]:
        """Average predictions of the same objects, as of several views."""
        return sum(answers[1:], answers[0]) / len(answers)

    def middle(
        self, predictions: Float[Array, "D k E"], valid: Bool[Array, "D k"]
    ) -> Float[Array, "D E"]:
        """Return the median of the valid predictions of the same objects."""
        return median(predictions, valid)
