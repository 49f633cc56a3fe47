"""Local response normalisation. Source: Krizhevsky et al., ImageNet Classification with Deep
Convolutional Neural Networks, 2012, section 3.3; constants and division as in Caffe and PyTorch.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Float

from mtl_jax.types import Array

SIZE, ALPHA, BETA = 5, 1e-4, 0.75


def local_response_norm(x: Float[Array, "*S C"]) -> Float[Array, "*S C"]:
    """Divide each channel by (1 + ALPHA * mean square of the `SIZE` channels around it) ** BETA.

    Channels beyond the ends count as 0.
    """
    squares = lax.reduce_window(
        jnp.square(x),
        x.dtype.type(0),
        lax.add,
        (*(1,) * (x.ndim - 1), SIZE),
        (1,) * x.ndim,
        (*((0, 0),) * (x.ndim - 1), (SIZE // 2, SIZE // 2)),
    )
    return x / (1 + (ALPHA / SIZE) * squares) ** BETA
