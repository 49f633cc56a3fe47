"""Output layers: linear, or with one score shared by all outputs."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Float

from mtl_jax.types import Array


def output_layer(
    size: int, one_score: bool, init: nn.initializers.Initializer, name: str
) -> nn.Module:
    """Return a layer of `size` outputs: a OneScore if `one_score`, else linear."""
    return (
        OneScore(size, init, name=name)
        if one_score
        else nn.Dense(size, kernel_init=init, name=name)
    )


class OneScore(nn.Module):
    """Linear layer with one weight vector for all outputs, which differ only by their biases.

    The order of the outputs is thus the same for all inputs. Source: Cao, Mirjalili, Raschka, Rank
    Consistent Ordinal Regression for Neural Networks, 2020 (CORAL), section 3.3.
    """

    size: int
    kernel_init: nn.initializers.Initializer

    @nn.compact
    def __call__(self, x: Float[Array, "R F"]) -> Float[Array, "R O"]:
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], 1))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.size,))
        return jnp.dot(x, kernel) + bias[None]
