"""From a network's terms to `Model`'s loss, sums and total.

Where asked, a batch's loss is taken part by part: the same value and gradients, in less memory.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Int

from mtl_jax import losses
from mtl_jax.types import Array, Batch, Loss, Term, Total, Variables

# (variables, part of the batch, key, its images' places in the batch) -> terms, batch statistics
Terms = Callable[[Variables, Batch, Array, Int[Array, "b"]], tuple[dict[str, Term], Any]]
# The same, told whether the network trains
NetworkTerms = Callable[
    [bool, Variables, Batch, Array, Int[Array, "b"]], tuple[dict[str, Term], Any]
]


def make_total(weights: Mapping[str, float]) -> Total:
    """Give the total of `Model`: terms from their sums, and their weighted sum."""

    def total(sums: Mapping[str, Term]) -> tuple[Array, dict[str, Array]]:
        terms = {name: losses.term_value(term) for name, term in sums.items()}
        return losses.weighted_sum(terms, weights), terms

    return total


def make_loss(terms_of: NetworkTerms, total: Total, parts: int) -> Loss:
    """Give the loss of `Model`: the total of terms added up over `parts` parts of a batch."""

    def loss(variables: Variables, batch: Batch, key: Array) -> tuple[Array, dict[str, Array], Any]:
        summed, stats = summed_terms(partial(terms_of, True), variables, batch, key, parts)
        return *total(summed), stats

    return loss


def make_sums(terms_of: NetworkTerms) -> Callable[[Variables, Batch], dict[str, Term]]:
    """Give the sums of `Model`. What is drawn at random is always the same."""

    def sums(variables: Variables, batch: Batch) -> dict[str, Term]:
        return terms_of(False, variables, batch, jax.random.key(0), jnp.arange(len(batch.valid)))[0]

    return sums


def summed_terms(
    terms: Terms, variables: Variables, batch: Batch, key: Array, parts: int
) -> tuple[dict[str, Term], Any]:
    """Add the terms of `parts` parts of a batch up (of fewer, where they do not divide its rows).

    A part's activations are computed again for its gradient, so that only one part's are in memory.
    Sums and counts are those of the whole batch; batch norms see a part at a time, as they would in
    batches of that size. Each part draws its dropout anew, with a key of its own.
    """
    rows = len(batch.valid)
    parts = math.gcd(rows, parts)
    places = jnp.arange(rows)
    if parts == 1:
        return terms(variables, batch, key, places)

    def split(x: Array) -> Array:
        # Row i is in part i modulo `parts`: a device's rows come in every part.
        return x.reshape(rows // parts, parts, *x.shape[1:]).swapaxes(0, 1)

    def add(carry: tuple[Any, Any], part: tuple[Batch, Array]) -> tuple[tuple[Any, Any], None]:
        sums, stats = carry
        more, stats = jax.checkpoint(terms)(
            {**variables, "batch_stats": stats}, part[0], key, part[1]
        )
        return (jax.tree.map(jnp.add, sums, more), stats), None

    split_up = jax.tree.map(split, (batch, places))
    first = jax.tree.map(lambda x: x[0], split_up)
    shapes, _ = jax.eval_shape(partial(terms, variables), first[0], key, first[1])
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    (sums, stats), _ = jax.lax.scan(add, (nothing, variables.get("batch_stats", {})), split_up)
    return sums, stats
