"""Head of an ordinal attribute: outputs are the logits that the label is above each level.

The last level has no output. Source: Niu et al., Ordinal Regression with Multiple Output CNN, 2016.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from mtl_jax import losses
from mtl_jax.attributes.ordinal import Ordinal
from mtl_jax.models.attribute_heads.base import Head
from mtl_jax.types import Array, Term


class OrdinalHead(Head[Ordinal]):
    @property
    def output_size(self) -> int:
        return len(self.attribute.classes) - 1

    @property
    def has_one_score(self) -> bool:
        return self.attribute.loss == "coral"

    def sums(
        self,
        outputs: Float[Array, "R O"],
        values: Float[Array, "R V"],
        known: Bool[Array, "R V"],
        boxes: Float[Array, "R 4"],
    ) -> Term:
        above = (values > jnp.arange(outputs.shape[1])).astype(jnp.float32)
        each = losses.binary_cross_entropy(outputs, above)
        return (losses.masked_sum(each, known[:, 0]),)

    def decode(
        self, outputs: Float[Array, "R O"], boxes: Float[Array, "R 4"]
    ) -> Float[Array, "R E"]:
        levels = jnp.asarray(self.attribute.levels)
        return levels[0] + jax.nn.sigmoid(outputs) @ jnp.diff(levels)[:, None]
