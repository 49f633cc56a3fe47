"""The objective of training: a model's weighted loss terms, summed over the parts of a batch."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from mtl_jax import losses
from mtl_jax.types import Array, Batch, Model, Term, Variables

# (variables, batch, key) -> objective, unweighted terms, new batch statistics
Loss = Callable[[Variables, Batch, Array], tuple[Array, dict[str, Array], Any]]


def weighted_total(
    sums: Mapping[str, Term], weights: Mapping[str, float]
) -> tuple[Array, dict[str, Array]]:
    """Return the objective and the terms that sums of terms make."""
    terms = {name: losses.term_value(term) for name, term in sums.items()}
    return losses.weighted_sum(terms, weights), terms


def make_loss(model: Model, parts: int = 1) -> Loss:
    """Build the function that training differentiates, over `parts` parts of a batch."""

    def loss(variables: Variables, batch: Batch, key: Array) -> tuple[Array, dict[str, Array], Any]:
        sums, stats = summed_terms(model.terms, variables, batch, key, parts)
        return *weighted_total(sums, model.weights), stats

    return loss


def summed_terms(
    terms: Callable[[Variables, Batch, Array, bool], tuple[dict[str, Term], Any]],
    variables: Variables,
    batch: Batch,
    key: Array,
    parts: int,
) -> tuple[dict[str, Term], Any]:
    """Sum the terms of `parts` parts of a batch, or of fewer where these do not divide its rows.

    Only one part's activations are in memory, as the backward pass computes them again. Sums and
    counts are those of the whole batch; batch norms see one part at a time, as in batches of that
    size. Each part has its own dropout.
    """
    rows = len(batch.valid)
    parts = math.gcd(rows, parts)
    if parts == 1:
        return terms(variables, batch, key, True)

    def split(x: Array) -> Array:
        # Row i is in part i modulo `parts`, so that every part has rows of every device.
        return x.reshape(rows // parts, parts, *x.shape[1:]).swapaxes(0, 1)

    @jax.checkpoint
    def terms_of_part(stats: Any, part: Batch) -> tuple[dict[str, Term], Any]:
        return terms({**variables, "batch_stats": stats}, part, key, True)

    def add(carry: tuple[Any, Any], part: Batch) -> tuple[tuple[Any, Any], None]:
        sums, stats = carry
        more, stats = terms_of_part(stats, part)
        return (jax.tree.map(jnp.add, sums, more), stats), None

    split_up = jax.tree.map(split, batch._replace(places=jnp.arange(rows)))
    stats = variables.get("batch_stats", {})
    first = jax.tree.map(lambda x: x[0], split_up)
    shapes, _ = jax.eval_shape(terms_of_part, stats, first)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    (sums, stats), _ = jax.lax.scan(add, (zeros, stats), split_up)
    return sums, stats
