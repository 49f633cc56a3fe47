"""Options of training: initial weights, optimizer, stages, and what happens how often."""

import math
from dataclasses import dataclass, field

from mtl_jax.errors import UserError

OPTIMIZERS = ("sgd", "adamw")
SCHEDULES = ("steps", "cosine", "exponential", "constant")
METHODS = ("fixed", "uncertainty", "gradnorm", "dwa", "pcgrad", "mgda", "pareto")


@dataclass(frozen=True)
class InitOptions:
    checkpoint: str = ""  # a RUN to start from
    step: str = "best"
    exclude: tuple[str, ...] = ()  # patterns of parameter paths that stay fresh


@dataclass(frozen=True)
class OptimizerOptions:
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

    def __post_init__(self) -> None:
        if self.name not in OPTIMIZERS:
            raise ValueError(f"optimizer.name {self.name!r} is none of {', '.join(OPTIMIZERS)}")
        if self.schedule not in SCHEDULES:
            raise ValueError(
                f"optimizer.schedule {self.schedule!r} is none of {', '.join(SCHEDULES)}"
            )
        if self.learning_rate <= 0:
            raise ValueError(f"optimizer.learning_rate {self.learning_rate} must be above 0")
        if min(self.clip_norm, self.weight_decay, self.warmup_steps) < 0:
            raise ValueError("optimizer.clip_norm, weight_decay and warmup_steps are 0 or more")
        if self.backbone_multiplier < 0 or self.gamma <= 0:
            raise ValueError("optimizer.backbone_multiplier is 0 or more, gamma above 0")
        if min(self.milestones, default=1.0) <= 0:
            raise ValueError(f"optimizer.milestones {self.milestones} are above 0")


@dataclass(frozen=True)
class Stage:
    """A stretch of training with one set of trained parameters and a fresh optimizer."""

    layers: str = "all"  # all | heads | 5+ | 4+ | 3+ | a regular expression on parameter paths
    steps: int = 10_000
    learning_rate: float = 0.0  # 0: the optimizer's

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; give 1 or more")
        if self.learning_rate < 0:
            raise ValueError(
                f"learning_rate {self.learning_rate} is negative; 0 is the optimizer's"
            )


@dataclass(frozen=True)
class BalanceOptions:
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

    def __post_init__(self) -> None:
        if self.rate <= 0 or self.window < 1 or self.temperature <= 0:
            raise ValueError("train.balancing rate and temperature are above 0, window at least 1")


@dataclass(frozen=True)
class LoopOptions:
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

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.log_every < 1 or self.seed < 0:
            raise ValueError("train.batch_size and log_every are at least 1, seed is at least 0")
        if not 0 <= self.ema < 1:
            raise ValueError(f"train.ema {self.ema} is a decay, from 0 to below 1")
        if min(self.eval_every, self.checkpoint_every) < 0:
            raise ValueError("train.eval_every and checkpoint_every are 0 or more")
        if self.patience < 0 or (self.patience and not self.eval_every):
            raise ValueError("train.patience counts validations: 0 or more, with eval_every set")
        if self.balance not in METHODS:
            raise ValueError(f"train.balance {self.balance!r} is none of {', '.join(METHODS)}")
        if self.accumulate < 1 or self.batch_size % self.accumulate:
            raise ValueError(
                f"train.accumulate {self.accumulate} does not divide the batch of {self.batch_size}"
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
