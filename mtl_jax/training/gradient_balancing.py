"""Gradients of a training step with loss balancing."""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from mtl_jax.config.options.training import BalanceOptions
from mtl_jax.errors import UserError, compile_pattern
from mtl_jax.training.loss_balancing import Balance, State, make_balance
from mtl_jax.training.stages import path_of
from mtl_jax.types import Array, Model, Variables

Loss = Callable[[Any], tuple[Array, tuple[dict[str, Array], Any]]]  # scalar, (terms, statistics)


class Balancing(NamedTuple):
    """A balancing method, with the loss weight of each task from the config."""

    balance: Balance
    tasks: Mapping[str, float]
    shared: str  # pattern of the shared parameters' paths


class Balanced(NamedTuple):
    total: Array  # with only the config's weights
    terms: dict[str, Array]
    stats: Any
    gradients: Any
    weights: dict[str, Array]  # of each task, multiplied with the config's
    state: State


def make_balancing(
    method: str, options: BalanceOptions, model: Model, variables: Variables
) -> Balancing | None:
    """Build the loss balancing of a model with `variables`; None for `fixed`.

    A loss term of weight 0 is not a task. Raises UserError if there are fewer than two tasks, or if
    the method requires gradients and no parameters are shared.
    """
    tasks = {name: weight for name, weight in model.weights.items() if weight}
    try:
        balance = make_balance(method, options, len(tasks))
    except ValueError as error:
        raise UserError(f"config.{error}") from None
    if balance is None:
        return None
    if len(tasks) < 2:
        raise UserError(f"config.train.balance {method!r} requires at least two tasks; use 'fixed'")
    shared = options.shared or model.shared
    if balance.needs_gradients:
        _check_shared(shared, method, variables["params"])
    return Balancing(balance, tasks, shared)


def _check_shared(pattern: str, method: str, params: Any) -> None:
    if not pattern:
        raise UserError(
            f"config.train.balance {method!r} requires parameters that all tasks share, and this "
            "model has none; use 'fixed', 'uncertainty' or 'dwa'"
        )
    field = "config.train.balancing.shared"
    compile_pattern(pattern, field)
    if not any(jax.tree.leaves(shared_parameters(params, pattern))):
        raise UserError(f"{field} {pattern!r} matches no parameter path of the model")


def balanced_gradients(
    loss: Loss, trained: Any, balancing: Balancing, state: State, key: Array
) -> Balanced:
    """Differentiate the tasks' losses, and return their weights and the combined gradient.

    Loss terms that are not tasks are added unchanged. Methods that do not require gradients need
    one backward pass, as without balancing; the others need one per task.
    """
    balance, tasks = balancing.balance, balancing.tasks

    def objectives(trained: Any) -> tuple[tuple[Array, Array], tuple[Array, dict, Any]]:
        total, (terms, stats) = loss(trained)
        each = jnp.stack([weight * terms[name] for name, weight in tasks.items()])
        return (each, total - each.sum()), (total, terms, stats)

    (losses, rest), pull, (total, terms, stats) = jax.vjp(objectives, trained, has_aux=True)
    has_rest = jnp.ones_like(rest) if set(terms) - set(tasks) else jnp.zeros_like(rest)
    count = len(tasks)
    nothing = jnp.zeros((count, count), losses.dtype)
    if not balance.needs_gradients:
        weights, state = balance.weigh(losses, nothing, key, state)
        (gradients,) = pull((weights, has_rest))
        return Balanced(total, terms, stats, gradients, _named(tasks, weights), state)
    own = [pull((unit, jnp.zeros_like(rest)))[0] for unit in jnp.eye(count, dtype=losses.dtype)]
    shared = shared_parameters(trained, balancing.shared)
    weights = jnp.ones(count)
    if any(jax.tree.leaves(shared)):  # otherwise the stage trains no shared parameters
        weights, state = balance.weigh(losses, gram(own, shared), key, state)

    def combine(is_shared: bool, *each: Array) -> Array:
        weighed = balance.weighs_all or is_shared
        return sum(w * g if weighed else g for w, g in zip(weights, each, strict=True))  # type: ignore[return-value]

    gradients = jax.tree.map(combine, shared, *own)
    if set(terms) - set(tasks):
        (others,) = pull((jnp.zeros_like(losses), has_rest))
        gradients = jax.tree.map(jnp.add, gradients, others)
    return Balanced(total, terms, stats, gradients, _named(tasks, weights), state)


def _named(tasks: Mapping[str, float], weights: Float[Array, "T"]) -> dict[str, Array]:
    return dict(zip(tasks, weights, strict=True))


def shared_parameters(params: Any, pattern: str) -> Any:
    """Return a tree of bools like `params`: True where the pattern is found in the path."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: re.search(pattern, path_of(path)) is not None, params
    )


def gram(gradients: list[Any], shared: Any) -> Float[Array, "T T"]:
    """Return the inner products of gradients with respect to the shared parameters."""
    chosen = jax.tree.leaves(shared)
    rows = [[g for g, on in zip(jax.tree.leaves(x), chosen, strict=True) if on] for x in gradients]
    product = jnp.zeros((len(rows), len(rows)))
    for leaves in zip(*rows, strict=True):
        flat = jnp.stack([leaf.ravel() for leaf in leaves]).astype(jnp.float32)
        product += flat @ flat.T
    return product
