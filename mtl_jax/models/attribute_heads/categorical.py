"""Head of a categorical attribute: one logit per class, or only that of the second of two."""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from mtl_jax import losses
from mtl_jax.attributes.categorical import Categorical
from mtl_jax.models.attribute_heads.base import Head
from mtl_jax.types import Array, Term


class CategoricalHead(Head[Categorical]):
    @property
    def output_size(self) -> int:
        return 1 if self._is_binary else len(self.attribute.classes)

    def sums(
        self,
        outputs: Float[Array, "R O"],
        values: Float[Array, "R V"],
        known: Bool[Array, "R V"],
        boxes: Float[Array, "R 4"],
    ) -> Term:
        if self._is_binary:
            each = losses.binary_cross_entropy(outputs[:, 0], values[:, 0])
        else:
            each = losses.cross_entropy(outputs, values[:, 0].astype(int))
        return (losses.masked_sum(each, known[:, 0]),)

    def decode(
        self, outputs: Float[Array, "R O"], boxes: Float[Array, "R 4"]
    ) -> Float[Array, "R E"]:
        if self._is_binary:
            return jax.nn.sigmoid(jnp.concatenate([-outputs, outputs], -1))
        return jax.nn.softmax(outputs)

    def middle(
        self, predictions: Float[Array, "D k E"], valid: Bool[Array, "D k"]
    ) -> Float[Array, "D E"]:
        """Return the median of each probability, scaled so that they sum to 1."""
        middle = super().middle(predictions, valid)
        return middle / jnp.maximum(middle.sum(-1, keepdims=True), 1e-6)

    @property
    def _is_binary(self) -> bool:
        return self.attribute.loss == "binary_cross_entropy"
