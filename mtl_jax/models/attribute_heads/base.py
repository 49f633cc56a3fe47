"""Heads of attributes: the number of outputs, the loss, and the decoding to predictions.

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

SMOOTH_L1_BETA = 1 / 9  # in units of the attribute's scale; landmarks: of the box's sides
Kind = TypeVar("Kind", bound=Attribute)


@dataclass(frozen=True)
class Head(Generic[Kind]):
    """Outputs, loss and decoding of one attribute; the base class of each kind's head."""

    attribute: Kind

    @property
    def output_size(self) -> int:
        """O, the number of outputs that the network computes."""
        return self.attribute.prediction_size

    @property
    def has_one_score(self) -> bool:
        """Whether the outputs share one score and differ only by their biases."""
        return False

    def make_layers(self, dtype: DTypeLike) -> nn.Module | None:
        """Build the layers that compute this attribute's outputs from the features of regions.

        The default is None: the outputs are a vector, computed by layers that the attributes
        share. Other layers map features `[R, s, s, C]` and valid rows `[R]` to outputs `[R, ...]`,
        which are passed to `loss` and `decode`.
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

        `boxes` are the regions that the outputs were computed from; landmarks are relative to them.
        """
        return self.sums(outputs, jnp.where(known, values, 0.0), known, boxes)

    def sums(
        self,
        outputs: Float[Array, "R *O"],
        values: Float[Array, "R V"],
        known: Bool[Array, "R V"],
        boxes: Float[Array, "R 4"],
    ) -> Term:
        """Compute `loss` from `values` that are 0 where not known."""
        raise NotImplementedError

    def decode(
        self, outputs: Float[Array, "R *O"], boxes: Float[Array, "R 4"]
    ) -> Float[Array, "R E"]:
        """Convert outputs for `boxes` to predictions.

        Landmarks are relative to the centre of their box, in units of its sides.
        """
        raise NotImplementedError

    def place(
        self, predictions: Float[Array, "R E"], boxes: Float[Array, "R 4"]
    ) -> Float[Array, "R E"]:
        """Convert predictions of `decode` for `boxes` to pixels of the padded image."""
        return predictions

    def mean(self, answers: Sequence[Float[Array, "*B E"]]) -> Float[Array, "*B E"]:
        """Average predictions of the same objects, such as those of several views."""
        return sum(answers[1:], answers[0]) / len(answers)

    def middle(
        self, predictions: Float[Array, "D k E"], valid: Bool[Array, "D k"]
    ) -> Float[Array, "D E"]:
        """Return the median of the valid predictions of the same objects."""
        return median(predictions, valid)
