"""Error analysis for reports: the confusion matrix, scores, overlaps and the worst images."""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from mtl_jax.config.options.evaluation import EvalOptions
from mtl_jax.data.records import Category, Record, overlaps
from mtl_jax.evals.matching import Truth, match
from mtl_jax.results import Result

WORST = 8  # number of images that are kept


class Case(NamedTuple):
    """An image with errors."""

    misses: int
    false_alarms: int
    record: Record
    result: Result


class ErrorAnalysis:
    """Accumulate predictions image by image, in addition to an `Evaluator`, for a report.

    Detections count from a score of `options.alarm_score` on; for the calibration all count. Crowds
    are excluded. Images whose records are not exhaustive have no false positives.
    """

    def __init__(self, categories: Sequence[Category], options: EvalOptions | None = None):
        self.categories = tuple(categories)
        self.names = ["background", *(category.name for category in categories)]
        self.confusion = np.zeros((len(self.names), len(self.names)), int)  # [annotated, predicted]
        self.scores: list[float] = []  # of every detection in exhaustive images
        self.right: list[bool] = []  # whether it matched an instance of its class
        self.best_overlaps: list[float] = []  # of every instance with a detection of any class
        self.overlapped: list[int] = []  # that instance's class; 0 in images without AP
        self.instances = np.zeros(len(self.names), int)
        # Detections of each class in exhaustive images, of any score.
        self.found = np.zeros(len(self.names), int)
        self.options = options or EvalOptions()
        self._worst: list[tuple[int, int, Case]] = []
        self._images = 0

    @property
    def worst(self) -> list[Case]:
        """The images with the most misses and false positives, worst first."""
        return [case for _, _, case in sorted(self._worst, reverse=True)]

    def add(self, record: Record, result: Result) -> None:
        """Add the predictions for the image of `record`, in that image's original pixels."""
        result = result.without(record.unlabelled)  # these can be right
        truth = Truth.of(record)
        self._images += 1
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
        # Match any class: a wrong class is neither a miss nor a false positive.
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
        result = replace(result, draw_score=self.options.alarm_score)  # draw what is counted
        case = Case(int(missed.sum()) + wrong, int(alarms.sum()) + wrong, record, result)
        if case.misses + case.false_alarms:
            # The image's number breaks ties, because cases cannot be compared.
            entry = (case.misses + case.false_alarms, -self._images, case)
            if len(self._worst) < WORST:
                heapq.heappush(self._worst, entry)
            else:
                heapq.heappushpop(self._worst, entry)


MASKS_MISFIT = "boxes match instances, but the masks in them do not"


def explain(analysis: ErrorAnalysis, metrics: Mapping[str, float]) -> list[str]:
    """Return a line for each average precision that is 0 or undefined, with the reason."""
    lines = []
    for kind in ("box", "mask"):
        for k, name in list(enumerate(analysis.names))[1:]:
            value = metrics.get(f"{kind}/AP/{name}")
            if value is not None and value > 0:
                continue
            if kind == "mask":
                if "mask/AP" not in metrics:
                    continue  # the model predicts none, or none is annotated
                box = metrics.get(f"box/AP/{name}")
                if box is not None and (box > 0 or value is None):
                    reason = "no instance has an annotated mask" if value is None else MASKS_MISFIT
                    lines.append(f"mask AP of {name}: {reason}")
                    continue
            lines.append(f"{kind} AP of {name}: {_why(analysis, k, value)}")
    return lines


def _why(analysis: ErrorAnalysis, k: int, value: float | None) -> str:
    if not analysis.instances[k]:
        return "undefined, because the split has no instances of the class"
    if value is None:
        return "undefined, because the class has no image that is annotated completely (exhaustive)"
    if not analysis.found.sum():
        return "there are no detections; train longer or lower model.detection.score_threshold"
    if not analysis.found[k]:
        others = analysis.confusion[k].copy()
        others[0] = 0
        if others.any():
            return f"not detected; instances are detected as {analysis.names[int(others.argmax())]}"
        return "not detected; all detections are of other classes and in other places"
    overlaps = zip(analysis.best_overlaps, analysis.overlapped, strict=True)
    best = float(np.median([overlap for overlap, label in overlaps if label == k]))
    if best < 0.5:
        return f"boxes do not fit; the median of the instances' best IoU is {best:.2f}"
    return "all detections of the class are false positives"
