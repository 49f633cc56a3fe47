"""Options of evaluation: metrics and test-time augmentation."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mtl_jax.config.options.base import Options, at_least, each_fraction

ERRORS = ("mae", "std", "nme", "misses", "false_alarms")  # metrics for which lower is better


@dataclass(frozen=True)
class ViewOptions(Options):
    """Views of an image at test time, whose detections are merged.

    There is one view for each of `scales`, which multiply the size set by `data.resize`, and, with
    `flip`, the mirror image of each.
    """

    flip: bool = False
    scales: tuple[float, ...] = (1.0,)

    def faults(self) -> Iterator[str]:
        if min(self.scales, default=0) <= 0:
            yield f"eval.scales is {self.scales}; it must be one or more numbers greater than 0"


@dataclass(frozen=True)
class EvalOptions(ViewOptions):
    """Metrics of the validation during training and of evaluate.py.

    The thresholds apply to attribute metrics, false negatives (misses) and false positives (false
    alarms), not to AP.
    """

    batch_size: int = 1  # also used by predict.py
    images: int = 0  # images of split val per validation, always the same ones; 0: all
    loss: bool = True  # validation also computes the losses
    best_metric: str = "box/AP"  # a metric of metrics.json, or a validation loss
    iou_threshold: float = 0.5  # minimum IoU of a detection with the instance that it matches
    match_score: float = 0.0  # minimum score of a matched detection; 0: all detections
    alarm_score: float = 0.5  # minimum score of a false positive
    # evaluate.py also computes metrics for each class of a categorical attribute, such as
    # ("gender", 0.0), or for each range of a continuous one, such as ("age", 10.0).
    groups: tuple[Any, ...] = ()
    limits: tuple[Any, ...] = ()  # ("age", 5.0): fraction of errors up to 5, as metric cs5
    coverage: float = 0.0  # of prediction intervals on split test, calibrated on val; 0: none

    @property
    def views(self) -> ViewOptions:
        return ViewOptions(self.flip, self.scales)

    def faults(self) -> Iterator[str]:
        yield from super().faults()
        yield from at_least("eval.batch_size", self.batch_size, 1)
        yield from at_least("eval.images", self.images, 0)
        thresholds = ("iou_threshold", "match_score", "alarm_score")
        yield from each_fraction("eval", self, *thresholds)
        for name, pairs in (("groups", self.groups), ("limits", self.limits)):
            kinds = [[type(part) for part in p] if isinstance(p, tuple) else [] for p in pairs]
            if any(each not in ([str, float], [str, int]) for each in kinds):
                yield f"eval.{name} is {pairs!r}; it must be a tuple of pairs (attribute, number)"
        if not 0 <= self.coverage < 1:
            yield f"eval.coverage is {self.coverage}; it must be at least 0 and less than 1"


def higher_is_better(metric: str) -> bool:
    """Return whether higher values of a metric or loss are better."""
    return not metric.startswith("loss/") and metric.rsplit("/", 1)[-1] not in ERRORS
