"""What stands behind the metrics, for a report: who was found by whom, with which score, and where
a model was most wrong.
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from mtl_jax.config.options.evaluation import EvalOptions
from mtl_jax.data.records import Category, Record, overlaps
from mtl_jax.evals.matching import Truth, match
from mtl_jax.results import Result

WORST = 8  # pictures that are kept


class Case(NamedTuple):
    """A picture on which something is wrong."""

    misses: int
    false_alarms: int
    record: Record
    result: Result


class Evidence:
    """Takes one picture after another, beside an `Evaluator` whose report is wanted.

    Detections count from `options.alarm_score` on, but for the calibration, where all do. Crowds
    are nobody's, and pictures whose records are not exhaustive give no false alarms.
    """

    def __init__(self, categories: Sequence[Category], options: EvalOptions | None = None):
        self.categories = tuple(categories)
        self.names = ["background", *(category.name for category in categories)]
        self.confusion = np.zeros((len(self.names), len(self.names)), int)  # [annotated, found]
        self.scores: list[float] = []  # of every detection on exhaustive pictures
        self.right: list[bool] = []  # whether it found something of its class
        self.best_overlaps: list[float] = []  # of every instance with any detection, of any class
        self.overlapped: list[int] = []  # the class of that instance, 0 of a picture without AP
        self.instances = np.zeros(len(self.names), int)
        # Detections of each class on exhaustive pictures, of any score.
        self.found = np.zeros(len(self.names), int)
        self.options = options or EvalOptions()
        self._worst: list[tuple[int, int, Case]] = []
        self._pictures = 0

    @property
    def worst(self) -> list[Case]:
        """The pictures with the most misses and false alarms, the worst first."""
        return [case for _, _, case in sorted(self._worst, reverse=True)]

    def add(self, record: Record, result: Result) -> None:
        """Take what was found on the picture of `record`, in that picture's own pixels."""
        truth = Truth.of(record)
        self._pictures += 1
        np.add.at(self.instances, truth.classes[~truth.crowd], 1)
        iou, _ = overlaps(result.boxes, truth.boxes)
        self.best_overlaps += iou[:, ~truth.crowd].max(0, initial=0.0).tolist()
        self.overlapped += (record.exhaustive * truth.classes[~truth.crowd]).tolist()
        if record.exhaustive:
            np.add.at(self.found, result.classes, 1)
            threshold = self.options.iou_threshold
            by_class = match(result.boxes, result.scores, result.classes, truth, threshold)
            counted = ~by_class.ignored
            self.scores += result.scores[counted].tolist()
            self.right += (by_class.gt_index[counted] >= 0).tolist()
        self._add_confusion(record, result, truth)

    def _add_confusion(self, record: Record, result: Result, truth: Truth) -> None:
        sure = result.scores >= self.options.alarm_score
        # Of whatever class: what is found as something else is no miss and no false alarm.
        classes, labels = result.classes[sure], truth.classes
        alike = truth._replace(classes=np.zeros_like(labels))
        boxes, scores = result.boxes[sure], result.scores[sure]
        found = match(boxes, scores, np.zeros_like(classes), alike, self.options.iou_threshold)
        hit = found.gt_index >= 0
        np.add.at(self.confusion, (labels[found.gt_index[hit]], classes[hit]), 1)
        missed = ~truth.crowd
        missed[found.gt_index[hit]] = False
        np.add.at(self.confusion, (labels[missed], np.zeros(missed.sum(), int)), 1)
        alarms = ~hit & ~found.ignored if record.exhaustive else np.zeros(len(hit), bool)
        np.add.at(self.confusion, (np.zeros(alarms.sum(), int), classes[alarms]), 1)
        wrong = int((labels[found.gt_index[hit]] != classes[hit]).sum())
        result = replace(result, draw_score=self.options.alarm_score)  # drawn is what is counted
        case = Case(int(missed.sum()) + wrong, int(alarms.sum()) + wrong, record, result)
        if case.misses + case.false_alarms:
            # The number breaks ties before records, which have no order, are compared.
            entry = (case.misses + case.false_alarms, -self._pictures, case)
            if len(self._worst) < WORST:
                heapq.heappush(self._worst, entry)
            else:
                heapq.heappushpop(self._worst, entry)


MASKS_MISFIT = "boxes are found, and the masks in them do not fit"


def explain(evidence: Evidence, metrics: Mapping[str, float]) -> list[str]:
    """Say in words why an average precision is 0 or cannot be given, a line each."""
    lines = []
    for kind in ("box", "mask"):
        for k, name in list(enumerate(evidence.names))[1:]:
            value = metrics.get(f"{kind}/AP/{name}")
            if value is not None and value > 0:
                continue
            if kind == "mask":
                if "mask/AP" not in metrics:
                    continue  # the model gives none, or none is annotated
                box = metrics.get(f"box/AP/{name}")
                if box is not None and (box > 0 or value is None):
                    reason = "none has an annotated mask" if value is None else MASKS_MISFIT
                    lines.append(f"mask AP of {name}: {reason}")
                    continue
            lines.append(f"{kind} AP of {name}: {_why(evidence, k, value)}")
    return lines


def _why(evidence: Evidence, k: int, value: float | None) -> str:
    if not evidence.instances[k]:
        return "there are none in this split, so that it cannot be given"
    if value is None:
        return "there is no picture here on which all of them are annotated (exhaustive)"
    if not evidence.found.sum():
        return "nothing is found at all; train longer, or lower model.detection.score_threshold"
    if not evidence.found[k]:
        others = evidence.confusion[k].copy()
        others[0] = 0
        if others.any():
            return f"none is found; they are taken for {evidence.names[int(others.argmax())]}"
        return "none is found; what is found is of other classes, elsewhere"
    overlaps = zip(evidence.best_overlaps, evidence.overlapped, strict=True)
    best = float(np.median([overlap for overlap, label in overlaps if label == k]))
    if best < 0.5:
        return f"boxes do not fit: the best on an instance overlaps it by {best:.2f} (median)"
    return "some are found, and all of them where there is nothing of the kind"
