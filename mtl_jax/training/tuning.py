"""What to begin a training with: a learning rate, and as many images a step as memory holds."""

import math
import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from mtl_jax.config.options.training import OptimizerOptions
from mtl_jax.errors import UserError
from mtl_jax.training.gradient_balancing import Balancing
from mtl_jax.training.optimizer import learning_rate_schedule, make_optimizer
from mtl_jax.training.sharding import replicated_key, shard_batch
from mtl_jax.training.state import start_stage
from mtl_jax.training.step import make_train_step
from mtl_jax.types import Batch, Model, Variables

DIVERGED = 4.0  # times the least loss: beyond it nothing more is to be seen
SMOOTHING = 0.9  # of the losses, each of which is one batch's
SHARE = 0.8  # of the memory that a step may take


class Tried(NamedTuple):
    rate: float
    loss: float  # smoothed


def try_learning_rates(
    model: Model,
    variables: Variables,
    batches: Iterable[Batch],
    options: OptimizerOptions,
    mask: Any,
    mesh: Mesh,
    steps: int = 100,
    lowest: float = 1e-6,
    highest: float = 1.0,
    parts: int = 1,
) -> list[Tried]:
    """Train with a rate that rises at each step, until the loss is no longer finite or diverges.

    Source: Smith, Cyclical Learning Rates for Training Neural Networks, 2017, section 3.3.
    """
    rising = replace(
        options,
        schedule="exponential",
        learning_rate=lowest,
        gamma=highest / lowest,
        warmup_steps=0,
    )
    schedule = learning_rate_schedule(rising, steps, lowest)
    optimizer = make_optimizer(rising, schedule)
    train_step = make_train_step(model, optimizer, mask, schedule, mesh, parts=parts)
    state = start_stage(variables, optimizer, mask, mesh)
    key = replicated_key(0, mesh)
    tried: list[Tried] = []
    mean = 0.0
    for number, batch in enumerate(batches, 1):
        state, metrics = train_step(state, shard_batch(batch, mesh), key)
        if not bool(metrics.finite):
            break
        mean = SMOOTHING * mean + (1 - SMOOTHING) * float(metrics.loss)
        loss = mean / (1 - SMOOTHING**number)
        tried.append(Tried(float(metrics.learning_rate), loss))
        if loss > DIVERGED * min(t.loss for t in tried) or number == steps:
            break
    return tried


def suggest_learning_rate(tried: list[Tried]) -> float:
    """Give the rate at which the loss falls most, of those before its least. Raises UserError where
    not one loss was finite.
    """
    if not tried:
        raise UserError("the first loss is not finite, at the lowest of the learning rates")
    losses = np.array([t.loss for t in tried])
    least = max(int(losses.argmin()), 1)
    slopes = np.gradient(losses[: least + 1]) if len(losses) > 1 else np.zeros(1)
    return float(f"{tried[int(slopes.argmin())].rate:.1e}")


def step_memory(
    model: Model,
    variables: Variables,
    batch: Batch,
    options: OptimizerOptions,
    mask: Any,
    mesh: Mesh,
    ema: float = 0.0,
    balancing: Balancing | None = None,
    parts: int = 1,
) -> int:
    """Give the bytes that a training step on `batch` takes on one device, as compiled; it is not
    run.
    """
    schedule = learning_rate_schedule(options, 1, options.learning_rate)
    optimizer = make_optimizer(options, schedule)
    train_step: Any = make_train_step(
        model, optimizer, mask, schedule, mesh, ema=ema, balancing=balancing, parts=parts
    )
    average = variables["params"] if ema else None
    balance = None if balancing is None else balancing.balance.init()
    state = start_stage(variables, optimizer, mask, mesh, average=average, balance=balance)
    key = replicated_key(0, mesh)
    compiled = train_step.lower(state, shard_batch(batch, mesh), key).compile()
    used = compiled.memory_analysis()
    given = used.argument_size_in_bytes + used.output_size_in_bytes
    # The state after the step lies where the state before it lay.
    return used.temp_size_in_bytes + given - used.alias_size_in_bytes


def device_memory() -> int:
    """Give the bytes of one device: of an accelerator's own memory, or of the machine's."""
    stats = jax.devices()[0].memory_stats() or {}
    return stats.get("bytes_limit") or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def largest_batch(memory_of: Callable[[int], int], available: int, multiple: int = 1) -> int:
    """Give the largest number of images, of whole multiples, whose step takes at most 80 % of the
    memory; 0 where not even one multiple fits.

    Memory grows linearly with the images: two sizes tell the third, which is then tried.
    """
    limit, memory_of = SHARE * available, cache(memory_of)
    one, two = memory_of(multiple), memory_of(2 * multiple)
    if one > limit:
        return 0
    growth = max(two - one, 1)
    count = 1 + math.floor((limit - one) / growth)
    while count > 1 and memory_of(count * multiple) > limit:
        count -= 1
    return count * multiple
