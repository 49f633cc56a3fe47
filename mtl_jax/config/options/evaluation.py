"""Options of evaluation: what is measured, and in which views of an image."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mtl_jax.config.options.base import Options, at_least

ERRORS = ("mae", "std", "nme", "misses", "false_alarms")  # metrics that a better model has less of


@dataclass(frozen=True)
class ViewOptions(Options):
    """Views of an image at test time, whose detections become one: each of `scales` times the size
    that `data.resize` gives, and with `flip` mirrored too.
    """

    flip: bool = False
    scales: tuple[float, ...] = (1.0,)

    def faults(self) -> Iterator[str]:
        numbers = all(isinstance(scale, int | float) for scale in self.scales)
        if not self.scales or not numbers or min(self.scales) <= 0:
            yield f"eval.scales is {self.scales}; it must be one or more numbers greater than 0"


@dataclass(frozen=True)
class EvalOptions(ViewOptions):
    """What is measured, during training and by evaluate.py. AP needs none of the thresholds;
    attributes, misses and false alarms do.
    """

    batch_size: int = 1  # also of predict.py
    pictures: int = 0  # of the split val, that a validation measures, always the same; 0: all
    loss: bool = True  # a validation computes the losses, too
    best_metric: str = "box/AP"  # a name of metrics.json, or a loss of the validation
    iou_threshold: float = 0.5  # a detection with that overlap found the instance
    match_score: float = 0.0  # attributes and misses: from every detection that the model returns
    alarm_score: float = 0.5  # a false alarm has at least this score
    # Of evaluate.py: metrics also of each class of an attribute, as ("gender", 0.0), or of each
    # range of a continuous one, as ("age", 10.0).
    groups: tuple[Any, ...] = ()
    limits: tuple[Any, ...] = ()  # ("age", 5.0): the share of errors up to it, cs5
    coverage: float = 0.0  # of the split test's intervals, calibrated on val; 0: none

    @property
    def views(self) -> ViewOptions:
        return ViewOptions(self.flip, self.scales)

    def faults(self) -> Iterator[str]:
        yield from super().faults()
        yield from at_least("eval.batch_size", self.batch_size, 1)
        yield from at_least("eval.pictures", self.pictures, 0)
        for name, pairs in (("groups", self.groups), ("limits", self.limits)):
            kinds = [[type(part) for part in p] if isinstance(p, tuple) else [] for p in pairs]
            if any(each not in ([str, float], [str, int]) for each in kinds):
                yield f"eval.{name} is {pairs!r}; it must be pairs (attribute, number)"
        if not 0 <= self.coverage < 1:
            yield f"eval.coverage is {self.coverage}; it must be 0 or more and less than 1"


def higher_is_better(metric: str) -> bool:
    """Say whether a better model has more of the metric, or loss, of that name."""
    return not metric.startswith("loss/") and metric.rsplit("/", 1)[-1] not in ERRORS
