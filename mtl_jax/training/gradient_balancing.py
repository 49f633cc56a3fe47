"""The gradient of a step whose tasks are balanced."""

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
    """A method and what it balances: the weight that each task's term has by the config."""

    balance: Balance
    tasks: Mapping[str, float]
    shared: str  # pattern of the shared parameters' paths


class Balanced(NamedTuple):
    total: Array  # with the config's weights alone
    terms: dict[str, Array]
    stats: Any
    gradients: Any
    weights: dict[str, Array]  # of each task, beside the config's
    state: State


def make_balancing(
    method: str, options: BalanceOptions, model: Model, variables: Variables
) -> Balancing | None:
    """Build what balances the tasks of a model of these `variables`; None for `fixed`.

    A term of weight 0 is no task. Raises UserError where there is nothing to balance, or a method
    that needs gradients finds no parameters that are shared.
    """
    tasks = {name: weight for name, weight in model.weights.items() if weight}
    try:
        balance = make_balance(method, options, len(tasks))
    except ValueError as error:
        raise UserError(f"config: {error}") from None
    if balance is None:
        return None
    if len(tasks) < 2:
        raise UserError(f"config.train.balance {method!r} wants two tasks or more; use 'fixed'")
    shared = options.shared or model.shared
    if balance.needs_gradients:
        _check_shared(shared, method, variables["params"])
    return Balancing(balance, tasks, shared)


def _check_shared(pattern: str, method: str, params: Any) -> None:
    if not pattern:
        raise UserError(
            f"config.train.balance {method!r} compares gradients of what tasks share, and in this "
            "model they share nothing"
        )
    field = "config.train.balancing.shared"
    compile_pattern(pattern, field)
    if not any(jax.tree.leaves(shared_parameters(params, pattern))):
        raise UserError(f"{field} {pattern!r} matches no parameter path of the model")


def balanced_gradients(
    loss: Loss, trained: Any, balancing: Balancing, state: State, key: Array
) -> Balanced:
    """Differentiate each task's loss, weigh them, and give the combined gradient.

    What the loss holds beside the tasks' terms is added as it is. A method that needs no gradients
    costs one backward pass, as without it; the others one for each task.
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
    if any(jax.tree.leaves(shared)):  # else the stage trains nothing that tasks share
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
    """Give a tree of bools like `params`: True where the path has the pattern in it."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: re.search(pattern, path_of(path)) is not None, params
    )


def gram(gradients: list[Any], shared: Any) -> Float[Array, "T T"]:
    """Give the inner products of gradients along the shared parameters."""
    chosen = jax.tree.leaves(shared)
    rows = [[g for g, on in zip(jax.tree.leaves(x), chosen, strict=True) if on] for x in gradients]
    product = jnp.zeros((len(rows), len(rows)))
    for leaves in zip(*rows, strict=True):
        flat = jnp.stack([leaf.ravel() for leaf in leaves]).astype(jnp.float32)
        product += flat @ flat.T
    return product
