"""How much each task counts in a step: weights from the tasks' losses and gradients.

Every method is a pure function of T losses, of the inner products of their gradients along the
shared parameters, of a key and of its state. A combined gradient is always a weighted sum of the
tasks' own, so the inner products say all that a method needs. A task whose loss is 0, as without
any label in the batch, has nothing to say: it is left out of a step, and its state stays.
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
STEPS = 200  # of the search for the shortest vector


class Balance(NamedTuple):
    """A method. Without `needs_gradients`, `gram` is not read. Its weights hold for all parameters,
    or else for the shared ones alone, and the others follow their own task's gradient.
    """

    init: Callable[[], State]
    weigh: Weigh
    needs_gradients: bool = True
    weighs_all: bool = False


def make_balance(method: str, options: BalanceOptions, tasks: int) -> Balance | None:
    """Build a method for so many tasks; None for `fixed`. Raises ValueError where the options do
    not fit.
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
    raise ValueError(f"train.balance {method!r} is none of {', '.join(METHODS)}")


def uncertainty(
    losses: Float[Array, "T"], gram: Float[Array, "T T"], key: Array, state: State, rate: float
) -> tuple[Float[Array, "T"], State]:
    """Weigh by exp(-s), s going down exp(-s) loss + s: to the loss's own logarithm.

    The step along s is its slope over (1 + its curvature), which keeps it below `rate` whatever the
    loss's size. Source: Kendall, Gal, Cipolla, Multi-task Learning Using Uncertainty, 2018, eq. 10.
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
    """Bring the tasks' gradient norms to their mean, times a power of how far each lags.

    The weights' slope is in units of the mean norm, so that `rate` has none. Source: Chen et al.,
    GradNorm, 2018, eq. 1, 2 and algorithm 1.
    """
    del key
    present = losses > 0
    first = jnp.where(state["first"] > 0, state["first"], losses)
    weights, norms = state["weights"], jnp.sqrt(jnp.maximum(jnp.diagonal(gram), 0))
    lag = losses / jnp.maximum(first, TINY)
    share = present / jnp.maximum(present.sum(), 1)  # of each task in a mean
    lag = lag / jnp.maximum(share @ lag, TINY)
    wanted = share @ (weights * norms) * lag**alpha
    slope = jnp.sign(weights * norms - wanted) * norms / jnp.maximum(share @ norms, TINY)
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
    """Weigh by a softmax of how slowly the losses fell between the last two windows; at first
    alike.

    Source: Liu, Johns, Davison, End-to-End Multi-Task Learning with Attention, 2019, eq. 7.
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
    """Take off each task's gradient what opposes the others', one after another in random order.

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
    """Take the shortest vector between the tasks' gradients: no task's loss rises along it.

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
    """Do as `mgda`, with further functions to lower beside the losses: for each other preference
    that the losses are nearer to than to the wanted one, by how much. At first, for at most
    `window` steps, lower these alone, until there is none.

    `preferences` are the others and the wanted one. Source: Lin et al., Pareto Multi-Task Learning,
    2019, eq. 8, 10, 13 and 15.
    """
    del key
    others, wanted = preferences
    apart, present = others - wanted, losses > 0
    rows = jnp.concatenate([jnp.eye(len(losses)), apart])
    nearer = (apart @ losses >= 0) & present.all()  # without one of them nobody knows
    on_the_way = nearer.any() & (state["count"] < window)
    active = jnp.concatenate([present & ~on_the_way, nearer])
    arrived = jnp.where(present.all(), window, state["count"])
    count = jnp.where(on_the_way, state["count"] + 1, arrived)
    return shortest(rows @ gram @ rows.T, active) @ rows, {"count": count}


def _preferences(options: BalanceOptions, tasks: int) -> tuple[Array, Array]:
    # With rows of each task alone, all alike would be wanted nearly everywhere: until one loss is
    # more than the others together, the method would be mgda.
    rows = options.preferences or (*(1 - jnp.eye(tasks) / 2).tolist(), [1.0] * tasks)
    if any(len(row) != tasks for row in rows) or not -len(rows) <= options.preference < len(rows):
        raise ValueError(
            f"train.balancing.preferences wants rows of {tasks} numbers, of which preference is one"
        )
    if not all(min(row) >= 0 < max(row) for row in rows):
        raise ValueError("train.balancing.preferences are 0 or more, and one of each row above 0")
    unit = jnp.array(rows, jnp.float32)
    unit = unit / jnp.linalg.norm(unit, axis=1, keepdims=True)
    wanted = options.preference % len(rows)
    return jnp.delete(unit, wanted, axis=0), unit[wanted]


def shortest(gram: Float[Array, "N N"], active: Bool[Array, "N"]) -> Float[Array, "N"]:
    """Give the shares, 0 or more and 1 together, of those vectors that are active in the shortest
    vector between them, by their inner products; the first where none is active.

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
        held = share[off]
        towards = jax.nn.one_hot(to, len(share)) - share
        away = share - jax.nn.one_hot(off, len(share))
        direction = jnp.where(forward, towards, away)
        most = jnp.where(forward, 1.0, held / jnp.maximum(1 - held, TINY))
        length = direction @ gram @ direction
        best = -(direction @ slope) / jnp.maximum(length, TINY)
        moved = jnp.maximum(share + jnp.clip(best, 0, most) * direction, 0)
        return moved / moved.sum()

    first = jnp.argmin(jnp.where(active, jnp.diagonal(gram), jnp.inf))
    return jax.lax.fori_loop(0, STEPS, step, jax.nn.one_hot(first, len(gram)))
