"""The objective of training, and its step: one jit from a batch to the next state."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from mtl_jax import losses
from mtl_jax.training.gradient_balancing import Balancing, balanced_gradients
from mtl_jax.training.sharding import replicated, shard_batch
from mtl_jax.training.stages import frozen_norms, merge, partition
from mtl_jax.training.state import TrainState
from mtl_jax.types import Array, Batch, Model, Term, Variables


class StepMetrics(NamedTuple):
    """Metrics of a step: scalars on the device."""

    loss: Array
    terms: dict[str, Array]  # unweighted
    grad_norm: Array  # before clipping
    learning_rate: Array
    finite: Array  # False: loss, gradient or statistics are not finite; the state is unchanged
    weights: dict[str, Array] | None = None  # of each task; None: no loss balancing


# (variables, batch, key) -> objective, unweighted terms, new batch statistics
Loss = Callable[[Variables, Batch, Array], tuple[Array, dict[str, Array], Any]]


def weighted_total(
    sums: Mapping[str, Term], weights: Mapping[str, float]
) -> tuple[Array, dict[str, Array]]:
    """Return the objective and the values of the terms."""
    terms = {name: losses.term_value(term) for name, term in sums.items()}
    return losses.weighted_sum(terms, weights), terms


def make_loss(model: Model, parts: int = 1) -> Loss:
    """Build the function that training differentiates; it splits a batch into `parts` parts."""

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
    """Sum the terms of `parts` parts of a batch, or of fewer if `parts` does not divide its rows.

    Only one part's activations are in memory, because the backward pass computes them again. Sums
    and counts are those of the whole batch. Batch norms use the statistics of one part at a time,
    as in batches of that size. Each part has its own dropout.
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


ORDER = 2**31 - 1  # folded into a step's key; greater than any position, which models fold in
TrainStep = Callable[[TrainState, Batch, Array], tuple[TrainState, StepMetrics]]


def make_train_step(
    model: Model,
    optimizer: optax.GradientTransformation,
    mask: Any,
    schedule: Callable[[Array], Array],
    mesh: Mesh,
    first_step: int = 0,
    ema: float = 0.0,
    balancing: Balancing | None = None,
    parts: int = 1,
) -> TrainStep:
    """Compile (state, batch, key) -> (state, metrics) for a stage.

    `mask` selects the parameters to train. Only these are differentiated; the others and the
    statistics of their norms stay unchanged. `key` is the run's; each step folds its number in.
    `schedule` is only used to report the learning rate; its steps count from the stage's
    `first_step`. `ema` is the decay of the state's average, if it has one. With `balancing`, the
    terms are also weighted by its method. The loss of a batch is computed in `parts` sequential
    parts. The old state is donated.
    """
    loss_of = make_loss(model, parts)

    def train_step(state: TrainState, batch: Batch, key: Array) -> tuple[TrainState, StepMetrics]:
        trained, frozen = partition(state.params, mask)

        def loss(trained: Any) -> tuple[Array, tuple[dict[str, Array], Any]]:
            variables = {
                "params": merge(trained, frozen),
                "batch_stats": state.batch_stats,
                "frozen": frozen_norms(state.batch_stats, mask),
            }
            total, terms, stats = loss_of(variables, batch, jax.random.fold_in(key, state.step))
            return total, (terms, stats)

        balance, weights = state.balance, None
        if balancing is None:
            (total, (terms, stats)), grads = jax.value_and_grad(loss, has_aux=True)(trained)
        else:
            order = jax.random.fold_in(jax.random.fold_in(key, state.step), ORDER)
            total, terms, stats, grads, weights, balance = balanced_gradients(
                loss, trained, balancing, balance, order
            )
        updates, opt_state = optimizer.update(grads, state.opt_state, trained)
        norm = optax.tree.norm(grads)
        finite = jnp.isfinite(total) & jnp.isfinite(norm) & _all_finite((stats, balance))
        good = state.finite & finite
        # A finite gradient norm bounds every update, so the new state is finite if the old one is.
        new = (optax.apply_updates(trained, updates), stats, opt_state, balance)
        old = (trained, state.batch_stats, state.opt_state, state.balance)
        trained, stats, opt_state, balance = jax.tree.map(
            lambda n, o: jnp.where(good, n, o), new, old
        )
        learning_rate = schedule(state.step - first_step)
        params, average = merge(trained, frozen), state.average
        if average is not None:
            rate = jnp.where(good, 1 - _decay(ema, state.step), 0.0)
            average = jax.tree.map(lambda a, p: a + rate * (p - a), average, params)
        new_state = TrainState(state.step + good, params, stats, opt_state, good, average, balance)
        return new_state, StepMetrics(total, terms, norm, learning_rate, finite, weights)

    return jax.jit(train_step, donate_argnums=0, out_shardings=replicated(mesh))


def _decay(ema: float, step: Array) -> Array:
    """Return the average's decay at a step, smaller at first to forget the initial parameters.

    Source: TensorFlow's `ExponentialMovingAverage(num_updates)`.
    """
    return jnp.minimum(ema, (1.0 + step) / (10.0 + step))


def _all_finite(tree: Any) -> Array:
    """Return whether all of a tree is finite, by one reduction over hundreds of small leaves."""
    leaves = [jnp.ravel(leaf).astype(jnp.float32) for leaf in jax.tree.leaves(tree)]
    return jnp.isfinite(jnp.concatenate(leaves)).all() if leaves else jnp.bool_(True)


def make_eval_loss(
    model: Model, mesh: Mesh
) -> Callable[[Variables, Iterable[Batch]], dict[str, float]]:
    """Compile (variables, batches) -> `loss` and each term over all batches, with the network as in
    prediction.

    Batching does not change the result, except that Mask R-CNN seeds its sampling with the image's
    position in the batch.
    """

    def sums(variables: Variables, batch: Batch) -> dict[str, Term]:
        return model.terms(variables, batch, jax.random.key(0), False)[0]

    compiled = jax.jit(sums, out_shardings=replicated(mesh))

    def evaluate(variables: Variables, batches: Iterable[Batch]) -> dict[str, float]:
        variables = jax.device_put(variables, replicated(mesh))
        each = [jax.device_get(compiled(variables, shard_batch(batch, mesh))) for batch in batches]
        if not each:
            return {}
        summed = jax.tree.map(lambda *parts: np.sum(parts, axis=0, dtype=np.float64), *each)
        total, terms = weighted_total(summed, model.weights)
        return {name: float(value) for name, value in {**terms, "loss": total}.items()}

    return evaluate
