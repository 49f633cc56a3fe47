"""Options of evaluation: what is measured, and in which views of an image."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ValidationOptions:
    """What is looked at during training, in the split val."""

    batch_size: int = 1  # also of evaluate.py and predict.py
    pictures: int = 0  # so many, always the same, of all sources; 0: all
    loss: bool = True  # the losses, beside the metrics

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"eval.batch_size {self.batch_size} must be at least 1")
        if self.pictures < 0:
            raise ValueError(f"eval.pictures {self.pictures} must be 0, which is all, or more")


ERRORS = ("mae", "std", "nme", "misses", "false_alarms")  # metrics that a better model has less of


@dataclass(frozen=True)
class EvalOptions:
    """AP needs none of the thresholds; attributes, misses and false alarms do."""

    best_metric: str = "box/AP"  # a name of metrics.json, or a loss of the validation
    iou_threshold: float = 0.5  # a detection with that overlap found the instance
    match_score: float = 0.0  # attributes and misses: from every detection that the model returns
    alarm_score: float = 0.5  # a false alarm has at least this score
    # Of evaluate.py: metrics also of each class of an attribute, as ("gender", 0.0), or of each
    # range of a continuous one, as ("age", 10.0).
    groups: tuple[Any, ...] = ()
    limits: tuple[Any, ...] = ()  # ("age", 5.0): the share of errors up to it, cs5
    coverage: float = 0.0  # of the split test's intervals, calibrated on val; 0: none

    def __post_init__(self) -> None:
        for name, pairs in (("groups", self.groups), ("limits", self.limits)):
            for pair in pairs:
                kinds = [type(part) for part in pair] if isinstance(pair, tuple) else []
                if kinds not in ([str, float], [str, int]):
                    raise ValueError(f"eval.{name} holds {pair!r}; give (attribute, number)")
        if not 0 <= self.coverage < 1:
            raise ValueError(f"eval.coverage {self.coverage} is not within 0 and 1")


def higher_is_better(metric: str) -> bool:
    """Say whether a better model has more of the metric, or loss, of that name."""
    return not metric.startswith("loss/") and metric.rsplit("/", 1)[-1] not in ERRORS


@dataclass(frozen=True)
class ViewOptions:
    """Views of a picture at test time, whose detections become one: each of `scales` times the size
    that `data.resize` gives, and with `flip` mirrored too.
    """

    flip: bool = False
    scales: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        numbers = all(isinstance(scale, int | float) for scale in self.scales)
        if not self.scales or not numbers or min(self.scales) <= 0:
            raise ValueError(f"eval.scales {self.scales} must be one or more numbers above 0")
