"""Options of training: initial weights, optimizer, stages, and what happens how often."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from mtl_jax.config.options.base import Options, above, at_least, one_of
from mtl_jax.errors import UserError

OPTIMIZERS = ("sgd", "adamw")
SCHEDULES = ("steps", "cosine", "exponential", "constant")
METHODS = ("fixed", "uncertainty", "gradnorm", "dwa", "pcgrad", "mgda", "pareto")


@dataclass(frozen=True)
class InitOptions(Options):
    checkpoint: str = ""  # a RUN to start from
    step: str = "best"
    exclude: tuple[str, ...] = ()  # patterns of parameter paths that stay fresh


@dataclass(frozen=True)
class OptimizerOptions(Options):
    """What updates the parameters. The numbers are those of torchvision's detection references."""

    name: str = "sgd"  # sgd | adamw
    learning_rate: float = 0.02
    momentum: float = 0.9  # of sgd
    beta1: float = 0.9  # of adamw
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 1e-4  # never on norms and biases
    clip_norm: float = 0.0  # largest global norm of the gradient; 0: no limit
    schedule: str = "steps"  # steps | cosine | exponential | constant
    warmup_steps: int = 1000  # linear from warmup_factor times the learning rate
    warmup_factor: float = 0.001
    milestones: tuple[float, ...] = (16 / 26, 22 / 26)  # up to 1: a fraction of the stage's steps
    gamma: float = 0.1  # factor at each milestone; exponential: over all of the stage
    backbone_multiplier: float = 1.0  # of the learning rate of the backbone

    def faults(self) -> Iterator[str]:
        yield from one_of("optimizer.name", self.name, OPTIMIZERS)
        yield from one_of("optimizer.schedule", self.schedule, SCHEDULES)
        yield from above("optimizer.learning_rate", self.learning_rate, 0)
        yield from at_least("optimizer.clip_norm", self.clip_norm, 0)
        yield from at_least("optimizer.weight_decay", self.weight_decay, 0)
        yield from at_least("optimizer.warmup_steps", self.warmup_steps, 0)
        yield from at_least("optimizer.backbone_multiplier", self.backbone_multiplier, 0)
        yield from above("optimizer.gamma", self.gamma, 0)
        if min(self.milestones, default=1.0) <= 0:
            yield f"optimizer.milestones is {self.milestones}; each must be greater than 0"


@dataclass(frozen=True)
class Stage(Options):
    """A stretch of training with one set of trained parameters and a fresh optimizer."""

    layers: str = "all"  # all | heads | 5+ | 4+ | 3+ | a regular expression on parameter paths
    steps: int = 10_000
    learning_rate: float = 0.0  # 0: the optimizer's

    def faults(self) -> Iterator[str]:
        yield from at_least("steps", self.steps, 1)
        yield from at_least("learning_rate", self.learning_rate, 0)


@dataclass(frozen=True)
class BalanceOptions(Options):
    shared: str = ""  # pattern of the paths of the shared parameters; '': the model's own
    rate: float = 0.025  # uncertainty, gradnorm: of the weights' own steps
    alpha: float = 1.5  # gradnorm: how strongly tasks that lag are pulled
    # dwa: steps that a loss is averaged over, in the paper an epoch; pareto: most steps of the way
    # into the wanted part
    window: int = 100
    temperature: float = 2.0  # dwa
    # pareto: a row of T numbers for each; (): each task at half of the others, and last all alike
    preferences: tuple[tuple[float, ...], ...] = ()
    preference: int = -1  # pareto: the row that is wanted

    def faults(self) -> Iterator[str]:
        yield from above("train.balancing.rate", self.rate, 0)
        yield from above("train.balancing.temperature", self.temperature, 0)
        yield from at_least("train.balancing.window", self.window, 1)


@dataclass(frozen=True)
class LoopOptions(Options):
    """How much goes into a step, and what happens how often, in steps.

    The last step is always logged, validated and saved.
    """

    batch_size: int = 2  # images of a step, over all devices
    accumulate: int = 1  # parts that a step's images are taken in, one after another: less memory
    balance: str = "fixed"  # how much each task counts; one of training.balance.METHODS
    balancing: BalanceOptions = field(default_factory=BalanceOptions)
    ema: float = 0.0  # decay of the parameters' average, which is validated and kept; 0: none
    patience: int = 0  # validations without a better one after which training stops; 0: never
    seed: int = 0
    log_every: int = 20
    eval_every: int = 1000  # 0: at the end alone; what is validated is saved
    checkpoint_every: int = 500  # 0: where a stage ends or is validated

    def faults(self) -> Iterator[str]:
        yield from at_least("train.batch_size", self.batch_size, 1)
        yield from at_least("train.log_every", self.log_every, 1)
        yield from at_least("train.seed", self.seed, 0)
        if not 0 <= self.ema < 1:
            yield f"train.ema is {self.ema}; it must be 0 or more and less than 1"
        yield from at_least("train.eval_every", self.eval_every, 0)
        yield from at_least("train.checkpoint_every", self.checkpoint_every, 0)
        yield from at_least("train.patience", self.patience, 0)
        if self.patience and not self.eval_every:
            yield "train.patience counts validations, which requires train.eval_every above 0"
        yield from one_of("train.balance", self.balance, METHODS)
        if self.accumulate < 1 or self.batch_size % self.accumulate:
            yield (
                f"train.accumulate is {self.accumulate}; it must divide train.batch_size, "
                f"{self.batch_size}"
            )

    def check_devices(self, count: int) -> None:
        """Raise UserError where a batch, filled up to a multiple of the devices, does not divide
        into the parts that it is to be taken in.
        """
        filled = self.batch_size + -self.batch_size % count
        if filled % self.accumulate:
            raise UserError(
                f"config.train.accumulate {self.accumulate} does not divide the batch of "
                f"{self.batch_size}, which {count} devices fill up to {filled}; make "
                f"config.train.batch_size a multiple of {math.lcm(count, self.accumulate)}"
            )
