"""Options of training: initial weights, optimizer, stages, loss balancing and the training loop."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from mtl_jax.config.options.base import (
    Options,
    above,
    at_least,
    each_at_least,
    each_fraction,
    one_of,
)
from mtl_jax.errors import UserError

OPTIMIZERS = ("sgd", "adamw")
SCHEDULES = ("steps", "cosine", "exponential", "constant")
METHODS = ("fixed", "uncertainty", "gradnorm", "dwa", "pcgrad", "mgda", "pareto")


@dataclass(frozen=True)
class InitOptions(Options):
    checkpoint: str = ""  # a RUN to start from
    step: str = "best"
    exclude: tuple[str, ...] = ()  # patterns of parameter paths that are not loaded


@dataclass(frozen=True)
class OptimizerOptions(Options):
    """Optimizer and schedule. The defaults are those of torchvision's detection references."""

    name: str = "sgd"  # sgd | adamw
    learning_rate: float = 0.02
    momentum: float = 0.9  # sgd
    beta1: float = 0.9  # adamw
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 1e-4  # not applied to norms and biases
    clip_norm: float = 0.0  # maximum global norm of the gradient; 0: no limit
    schedule: str = "steps"  # steps | cosine | exponential | constant
    warmup_steps: int = 1000  # linear from warmup_factor times the learning rate
    warmup_factor: float = 0.001
    milestones: tuple[float, ...] = (16 / 26, 22 / 26)  # steps; up to 1: fractions of the stage
    gamma: float = 0.1  # factor at each milestone; exponential: over the whole stage
    backbone_multiplier: float = 1.0  # factor on the backbone's learning rate

    def faults(self) -> Iterator[str]:
        yield from one_of("optimizer.name", self.name, OPTIMIZERS)
        yield from one_of("optimizer.schedule", self.schedule, SCHEDULES)
        yield from above("optimizer.learning_rate", self.learning_rate, 0)
        limits = ("clip_norm", "weight_decay", "warmup_steps", "warmup_factor")
        yield from each_at_least("optimizer", self, 0, *limits, "backbone_multiplier")
        yield from each_fraction("optimizer", self, "momentum", "beta1", "beta2")
        yield from above("optimizer.epsilon", self.epsilon, 0)
        yield from above("optimizer.gamma", self.gamma, 0)
        if min(self.milestones, default=1.0) <= 0:
            yield f"optimizer.milestones is {self.milestones}; each must be greater than 0"


@dataclass(frozen=True)
class Stage(Options):
    """A training stage, with one set of trained parameters and a new optimizer state."""

    layers: str = "all"  # all | heads | 5+ | 4+ | 3+ | a regular expression on parameter paths
    steps: int = 10_000
    learning_rate: float = 0.0  # 0: optimizer.learning_rate

    def faults(self) -> Iterator[str]:
        yield from at_least("steps", self.steps, 1)
        yield from at_least("learning_rate", self.learning_rate, 0)


@dataclass(frozen=True)
class BalanceOptions(Options):
    shared: str = ""  # pattern of the shared parameters' paths; '': set by the model
    rate: float = 0.025  # uncertainty, gradnorm: learning rate of the loss weights
    alpha: float = 1.5  # gradnorm: strength of the correction for tasks that train slowly
    # dwa: number of steps over which a loss is averaged, an epoch in the paper; pareto: maximum
    # number of steps of the first phase, which leads to the region of the preference
    window: int = 100
    temperature: float = 2.0  # dwa
    # pareto: preference vectors of T numbers; (): for each task one that halves the task, then one
    # with equal numbers
    preferences: tuple[tuple[float, ...], ...] = ()
    preference: int = -1  # pareto: index of the preference vector to train for

    def faults(self) -> Iterator[str]:
        yield from above("train.balancing.rate", self.rate, 0)
        yield from above("train.balancing.temperature", self.temperature, 0)
        yield from at_least("train.balancing.window", self.window, 1)


@dataclass(frozen=True)
class LoopOptions(Options):
    """Options of the training loop. Intervals are in steps.

    The last step is always logged, validated and saved.
    """

    batch_size: int = 2  # images per step, over all devices
    accumulate: int = 1  # gradient accumulation: sequential parts of a batch, to save memory
    balance: str = "fixed"  # weighting of the tasks' losses; one of METHODS
    balancing: BalanceOptions = field(default_factory=BalanceOptions)
    ema: float = 0.0  # decay of the parameters' average, which is validated and saved; 0: none
    patience: int = 0  # early stopping: validations without improvement; 0: off
    seed: int = 0
    log_every: int = 20
    eval_every: int = 1000  # 0: only at the end; each validation saves a checkpoint
    checkpoint_every: int = 500  # 0: only at the end of a stage and at validations

    def faults(self) -> Iterator[str]:
        yield from each_at_least("train", self, 1, "batch_size", "log_every")
        intervals = ("eval_every", "checkpoint_every", "patience")
        yield from each_at_least("train", self, 0, "seed", *intervals)
        if not 0 <= self.ema < 1:
            yield f"train.ema is {self.ema}; it must be at least 0 and less than 1"
        if self.patience and not self.eval_every:
            yield "train.patience counts validations and requires train.eval_every greater than 0"
        yield from one_of("train.balance", self.balance, METHODS)
        if self.accumulate < 1 or self.batch_size % self.accumulate:
            yield (
                f"train.accumulate is {self.accumulate}; it must divide train.batch_size, "
                f"{self.batch_size}"
            )

    def check_devices(self, count: int) -> None:
        """Raise UserError if a batch, padded to a multiple of `count` devices, cannot be divided
        into `accumulate` parts.
        """
        filled = self.batch_size + -self.batch_size % count
        if filled % self.accumulate:
            raise UserError(
                f"config.train.accumulate is {self.accumulate}; it must divide the batch of "
                f"{self.batch_size} images, which is padded to {filled} for {count} devices; set "
                "config.train.batch_size to a multiple of "
                f"{math.lcm(count, self.accumulate)}"
            )
