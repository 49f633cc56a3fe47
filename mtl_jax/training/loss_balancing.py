"""Loss balancing: weights of the tasks in a step, from their losses and gradients.

Every method is a pure function of T losses, the inner products of their gradients with respect to
the shared parameters, a random key and its state. The inner products suffice because the combined
gradient is always a weighted sum of the tasks' gradients. A task whose loss is 0, such as one
without labels in the batch, is excluded from the step, and its state is kept.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from mtl_jax.config.options.training import METHODS, BalanceOptions
from mtl_jax.types import Array

State = dict[str, Array]
# (losses [T], gram [T, T], key, state) -> weights [T], state
Weigh = Callable[[Array, Array, Array, State], tuple[Array, State]]
TINY = 1e-12
STEPS = 200  # iterations of the search for the shortest vector


class Balance(NamedTuple):
    """A balancing method.

    `gram` is only used with `needs_gradients`. With `weighs_all`, the weights apply to all
    parameters; otherwise only to the shared ones, and the others use their own task's gradient.
    """

    init: Callable[[], State]
    weigh: Weigh
    needs_gradients: bool = True
    weighs_all: bool = False


def make_balance(method: str, options: BalanceOptions, tasks: int) -> Balance | None:
    """Build a method for a number of tasks; None for `fixed`. Raises ValueError if the options are
    invalid.
    """
    ones = jnp.ones(tasks)
    match method:
        case "fixed":
            return None
        case "uncertainty":
            weigh = partial(uncertainty, rate=options.rate)
            return Balance(
                lambda: {"log_variance": 0 * ones}, weigh, needs_gradients=False, weighs_all=True
            )
        case "gradnorm":
            weigh = partial(gradnorm, rate=options.rate, alpha=options.alpha)
            return Balance(lambda: {"weights": ones, "first": 0 * ones}, weigh, weighs_all=True)
        case "dwa":
            weigh = partial(dwa, window=options.window, temperature=options.temperature)
            names = ("sum", "seen", "last", "before")
            return Balance(
                lambda: {"count": jnp.int32(0), **dict.fromkeys(names, 0 * ones)},
                weigh,
                needs_gradients=False,
                weighs_all=True,
            )
        case "pcgrad":
            return Balance(dict, pcgrad)
        case "mgda":
            return Balance(dict, mgda)
        case "pareto":
            chosen = _preferences(options, tasks)
            weigh = partial(pareto, preferences=chosen, window=options.window)
            return Balance(lambda: {"count": jnp.int32(0)}, weigh)
    raise ValueError(f"train.balance must be one of {', '.join(METHODS)}, got {method!r}")


def uncertainty(
    losses: Float[Array, "T"], gram: Float[Array, "T T"], key: Array, state: State, rate: float
) -> tuple[Float[Array, "T"], State]:
    """Weight each loss by exp(-s), where s descends exp(-s) loss + s and converges to log(loss).

    The step of s is its slope divided by (1 + its curvature), and therefore below `rate` for any
    size of the loss. Source: Kendall, Gal, Cipolla, Multi-task Learning Using Uncertainty, 2018,
    eq. 10.
    """
    del gram, key
    weights = jnp.exp(-state["log_variance"])
    scaled = weights * losses
    step = jnp.where(losses > 0, rate * (scaled - 1) / (1 + scaled), 0.0)
    return weights, {"log_variance": state["log_variance"] + step}


def gradnorm(
    losses: Float[Array, "T"],
    gram: Float[Array, "T T"],
    key: Array,
    state: State,
    rate: float,
    alpha: float,
) -> tuple[Float[Array, "T"], State]:
    """Move the tasks' gradient norms to their mean times a power of each task's relative loss.

    The slope of the weights is divided by the mean norm, so that `rate` is independent of its size.
    Source: Chen et al., GradNorm, 2018, eq. 1, 2 and algorithm 1.
    """
    del key
    present = losses > 0
    first = jnp.where(state["first"] > 0, state["first"], losses)
    weights, norms = state["weights"], jnp.sqrt(jnp.maximum(jnp.diagonal(gram), 0))
    lag = losses / jnp.maximum(first, TINY)
    share = present / jnp.maximum(present.sum(), 1)  # of each task in a mean
    lag = lag / jnp.maximum(share @ lag, TINY)
    target = share @ (weights * norms) * lag**alpha
    slope = jnp.sign(weights * norms - target) * norms / jnp.maximum(share @ norms, TINY)
    moved = jnp.maximum(weights - rate * jnp.where(present, slope, 0.0), 1e-3)
    moved *= (present @ weights) / jnp.maximum(present @ moved, TINY)
    return weights, {"weights": jnp.where(present, moved, weights), "first": first}


def dwa(
    losses: Float[Array, "T"],
    gram: Float[Array, "T T"],
    key: Array,
    state: State,
    window: int,
    temperature: float,
) -> tuple[Float[Array, "T"], State]:
    """Weight by a softmax of the ratios of the losses' means in the last two windows.

    The weights are equal until there are two windows. Source: Liu, Johns, Davison, End-to-End
    Multi-Task Learning with Attention, 2019, eq. 7.
    """
    del gram, key
    last, before = state["last"], state["before"]
    speed = jnp.where((before > 0).all(), last / jnp.maximum(before, TINY), 1.0)
    weights = len(losses) * jax.nn.softmax(speed / temperature)
    total, count = state["sum"] + losses, state["count"] + 1
    seen = state["seen"] + (losses > 0)
    full = count == window
    return weights, {
        "count": jnp.where(full, 0, count),
        "sum": jnp.where(full, 0.0, total),
        "seen": jnp.where(full, 0.0, seen),
        "last": jnp.where(full & (seen > 0), total / jnp.maximum(seen, 1), last),
        "before": jnp.where(full, last, before),
    }


def pcgrad(
    losses: Float[Array, "T"], gram: Float[Array, "T T"], key: Array, state: State
) -> tuple[Float[Array, "T"], State]:
    """Remove from each task's gradient what opposes the others', one by one in random order.

    Source: Yu et al., Gradient Surgery for Multi-Task Learning, 2020, algorithm 1.
    """
    tasks = len(losses)

    def project(i: Array, key: Array) -> Float[Array, "T"]:
        def against(share: Float[Array, "T"], j: Array) -> tuple[Float[Array, "T"], None]:
            inner = share @ gram[j]
            off = jnp.minimum(inner, 0) / jnp.maximum(gram[j, j], TINY)
            return share.at[j].add(jnp.where(j == i, 0.0, -off)), None

        order = jax.random.permutation(key, tasks)
        return jax.lax.scan(against, jax.nn.one_hot(i, tasks), order)[0]

    shares = jax.vmap(project)(jnp.arange(tasks), jax.random.split(key, tasks))
    return shares.sum(0), state


def mgda(
    losses: Float[Array, "T"], gram: Float[Array, "T T"], key: Array, state: State
) -> tuple[Float[Array, "T"], State]:
    """Return the weights of the shortest convex combination of the tasks' gradients.

    In its direction, no task's loss increases.

    Source: Sener, Koltun, Multi-Task Learning as Multi-Objective Optimization, 2018, eq. 3.
    """
    del key
    return shortest(gram, losses > 0), state


def pareto(
    losses: Float[Array, "T"],
    gram: Float[Array, "T T"],
    key: Array,
    state: State,
    preferences: tuple[Float[Array, "P T"], Float[Array, "T"]],
    window: int,
) -> tuple[Float[Array, "T"], State]:
    """Apply `mgda` to the losses and to constraints that lead to the preferred trade-off.

    A constraint is active for each other preference vector that the losses are closer to than to
    the preferred one; its value is the difference. In a first phase of at most `window` steps, only
    the constraints are minimised, until none is active. `preferences` are the other vectors and the
    preferred one. Source: Lin et al., Pareto Multi-Task Learning, 2019, eq. 8, 10, 13 and 15.
    """
    del key
    others, preferred = preferences
    apart, present = others - preferred, losses > 0
    rows = jnp.concatenate([jnp.eye(len(losses)), apart])
    nearer = (apart @ losses >= 0) & present.all()  # unknown without one of the losses
    on_the_way = nearer.any() & (state["count"] < window)
    active = jnp.concatenate([present & ~on_the_way, nearer])
    arrived = jnp.where(present.all(), window, state["count"])
    count = jnp.where(on_the_way, state["count"] + 1, arrived)
    return shortest(rows @ gram @ rows.T, active) @ rows, {"count": count}


def _preferences(options: BalanceOptions, tasks: int) -> tuple[Array, Array]:
    # With unit vectors as the other rows, equal preference would be the closest nearly everywhere:
    # unless one loss exceeds the sum of the others, the method would be mgda.
    rows = options.preferences or (*(1 - jnp.eye(tasks) / 2).tolist(), [1.0] * tasks)
    if any(len(row) != tasks for row in rows) or not -len(rows) <= options.preference < len(rows):
        raise ValueError(
            f"train.balancing.preferences must be rows of {tasks} numbers, and preference the "
            "index of one of them"
        )
    if not all(min(row) >= 0 < max(row) for row in rows):
        raise ValueError(
            "train.balancing.preferences must be >= 0, with a number above 0 in each row"
        )
    unit = jnp.array(rows, jnp.float32)
    unit = unit / jnp.linalg.norm(unit, axis=1, keepdims=True)
    preferred = options.preference % len(rows)
    return jnp.delete(unit, preferred, axis=0), unit[preferred]


def shortest(gram: Float[Array, "N N"], active: Bool[Array, "N"]) -> Float[Array, "N"]:
    """Return the weights of the active vectors in their shortest convex combination.

    The weights are >= 0 and sum to 1. `gram` is the vectors' inner products. If none is active, the
    weight of the first is 1.
    Source: Jaggi, Revisiting Frank-Wolfe, 2013, with away steps and exact line search.
    """
    scale = jnp.maximum(jnp.where(active, jnp.diagonal(gram), 0).max(), TINY)
    gram = gram / scale

    def step(_: Array, share: Float[Array, "N"]) -> Float[Array, "N"]:
        slope = gram @ share
        to = jnp.argmin(jnp.where(active, slope, jnp.inf))
        off = jnp.argmax(jnp.where(share > 0, slope, -jnp.inf))
        own = share @ slope
        forward = own - slope[to] >= slope[off] - own
        weight = share[off]
        towards = jax.nn.one_hot(to, len(share)) - share
        away = share - jax.nn.one_hot(off, len(share))
        direction = jnp.where(forward, towards, away)
        most = jnp.where(forward, 1.0, weight / jnp.maximum(1 - weight, TINY))
        length = direction @ gram @ direction
        best = -(direction @ slope) / jnp.maximum(length, TINY)
        moved = jnp.maximum(share + jnp.clip(best, 0, most) * direction, 0)
        return moved / moved.sum()

    first = jnp.argmin(jnp.where(active, jnp.diagonal(gram), jnp.inf))
    return jax.lax.fori_loop(0, STEPS, step, jax.nn.one_hot(first, len(gram)))
