"""When a detection counts, and which metric says that a checkpoint is the best."""

from dataclasses import dataclass
from typing import Any

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
