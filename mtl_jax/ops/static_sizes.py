"""Selection of the smallest static size that is sufficient for a computation."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from mtl_jax.types import Array

Output = TypeVar("Output")


def run_smallest(
    needed: Int[Array, ""],
    sizes: Sequence[int],
    run: Callable[..., Output],
    *operands: Any,
    switch: Callable[..., Output] = jax.lax.switch,
) -> Output:
    """Return `run(size, *operands)` for the smallest of the ascending `sizes` that is at least
    `needed`, or for the last one.

    Every size is traced and compiled. `switch` is `flax.linen.switch` where the first operand is a
    module.
    """
    index = jnp.sum(needed > np.array(sizes[:-1], np.int32))
    return switch(index, [partial(run, size) for size in sizes], *operands)
