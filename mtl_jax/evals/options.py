"""When a detection counts, and which metric says that a checkpoint is the best."""

from dataclasses import dataclass

ERRORS = ("mae", "std", "nme", "misses", "false_alarms")  # metrics that a better model has less of


@dataclass(frozen=True)
class EvalOptions:
    """AP needs none of the thresholds; attributes, misses and false alarms do."""

    best_metric: str = "box/AP"  # a name of metrics.json
    iou_threshold: float = 0.5  # a detection with that overlap found the instance
    match_score: float = 0.0  # attributes and misses: from every detection that the model returns
    alarm_score: float = 0.5  # a false alarm has at least this score


def higher_is_better(metric: str) -> bool:
    """Say whether a better model has more of the metric of that name."""
    return metric.rsplit("/", 1)[-1] not in ERRORS
