"""A random sample of positives and negatives of fixed size."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Bool, Int

from mtl_jax.types import Array


class Samples(NamedTuple):
    """The drawn candidates, positives first; the index is 0 where `valid` is False."""

    index: Int[Array, "*B R"]
    valid: Bool[Array, "*B R"]
    positive: Bool[Array, "*B R"]


def sample(
    key: Array,
    positive: Bool[Array, "N"],
    negative: Bool[Array, "N"],
    num_samples: int,
    positive_fraction: float,
) -> Samples:
    """Draw positives and negatives at random, without replacement.

    At most `int(num_samples * positive_fraction)` are positives, the rest negatives. If there are
    too few candidates, all are drawn and the remaining slots are not valid. `key` is the key of one
    image. A candidate that is both counts as positive.
    """
    negative = negative & ~positive
    positive_index = _shuffled(key, positive, int(num_samples * positive_fraction))
    negative_index = _shuffled(jax.random.fold_in(key, 1), negative, num_samples)
    num_positive = jnp.minimum(jnp.sum(positive), len(positive_index))
    num_negative = jnp.minimum(jnp.sum(negative), num_samples - num_positive)
    slot = jnp.arange(num_samples)
    valid = slot < num_positive + num_negative
    source = jnp.where(slot < num_positive, slot, len(positive_index) + slot - num_positive)
    index = jnp.concatenate([positive_index, negative_index])[jnp.where(valid, source, 0)]
    return Samples(jnp.where(valid, index, 0), valid, slot < num_positive)


def _shuffled(key: Array, candidates: Bool[Array, "N"], count: int) -> Int[Array, "n"]:
    """Return `count` indices (at most N), the candidates first, in random order."""
    random = jnp.where(candidates, jax.random.uniform(key, candidates.shape), -1)
    return lax.top_k(random, min(count, len(candidates)))[1].astype(jnp.int32)
