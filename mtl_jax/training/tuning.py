"""Suggestions for training: a learning rate, and the largest batch that fits into memory."""

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

DIVERGED = 4.0  # the search stops at a loss of this multiple of the smallest one
SMOOTHING = 0.9  # decay of the moving average of the batches' losses
SHARE = 0.8  # fraction of the memory that a step may use


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
    """Train with a rate that increases at each step until the loss diverges or is not finite.

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
    """Return the rate with the steepest decrease of the loss before its minimum.

    Raises UserError if no loss is finite.
    """
    if not tried:
        raise UserError("the loss is not finite at the first step, with the lowest learning rate")
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
    """Return the bytes that a training step on `batch` requires on one device.

    The step is compiled but not run.
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
    passed = used.argument_size_in_bytes + used.output_size_in_bytes
    # The new state reuses the memory of the old one.
    return used.temp_size_in_bytes + passed - used.alias_size_in_bytes


def device_memory() -> int:
    """Return the memory of one device in bytes: of the accelerator, or else of the machine."""
    stats = jax.devices()[0].memory_stats() or {}
    return stats.get("bytes_limit") or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def largest_batch(memory_of: Callable[[int], int], available: int, multiple: int = 1) -> int:
    """Return the largest number of images, a multiple of `multiple`, whose step requires at most
    80 % of the memory; 0 if not even one multiple fits.

    The number is extrapolated linearly from two sizes, and reduced until it fits.
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
