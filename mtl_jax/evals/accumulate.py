"""Accumulation of the metrics in `metrics.json`, image by image."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mtl_jax.attributes.base import Attribute, Labels
from mtl_jax.config.options.evaluation import EvalOptions
from mtl_jax.data.records import Category, Record
from mtl_jax.evals.attributes import gather, stack
from mtl_jax.evals.best_worst import AttributeCases
from mtl_jax.evals.coco import CocoScorer
from mtl_jax.evals.face_errors import FaceErrors
from mtl_jax.evals.groups import Groups, read_groupings
from mtl_jax.evals.intervals import Interval, calibrate
from mtl_jax.evals.matching import Match, Truth, match
from mtl_jax.results import Result

_log = logging.getLogger(__name__)


class Evaluator:
    """Accumulate predictions image by image; `metrics` returns the dictionary of `metrics.json`.

    Crowds are neither instances nor misses. Images whose records are not exhaustive are excluded
    from AP and from false positives, because unmatched detections in them may be correct. Metrics
    can also be grouped by labels of `undeclared` attributes. Raises ValueError if the options do
    not match the attributes.
    """

    def __init__(
        self,
        categories: Sequence[Category],
        attributes: Sequence[Attribute] = (),
        options: EvalOptions | None = None,
        undeclared: Sequence[Attribute] = (),
    ):
        self.attributes = tuple(attributes)
        self._options = options or EvalOptions()
        self._coco = CocoScorer(categories)
        self.faces = FaceErrors(self.attributes)
        self.cases = AttributeCases(self.attributes)
        # Values, known, box and prediction of matched instances.
        self._rows = {a.name: [] for a in self.attributes}
        self._labelled = dict.fromkeys(self._rows, 0)
        self._groups = Groups(read_groupings(self._options.groups, (*self.attributes, *undeclared)))
        self._limits = _read_limits(self._options, self.attributes)
        self.intervals: dict[str, Interval] = {}  # by continuous attribute, once calibrated
        self._instances = 0
        self._exhaustive = 0  # images
        self._false_alarms = 0

    def add(self, record: Record, result: Result) -> None:
        """Add the predictions for the image of `record`, in that image's original pixels."""
        if (record.height, record.width) != (result.height, result.width):
            raise ValueError(
                f"{record.file_name}: the record's size is {record.width} x {record.height}, "
                f"the result's {result.width} x {result.height}"
            )
        result = result.without(record.unlabelled)  # these can be right
        matched = self._match(record, result)
        sure = result.scores >= self._options.match_score
        finders = {int(g): d for d, g in enumerate(matched.gt_index) if g >= 0 and sure[d]}
        self._instances += sum(not instance.crowd for instance in record.instances)
        self.faces.add(record, result, finders)
        self.cases.add(record, result, finders)
        for attribute in self.attributes:
            self._add_attribute(attribute, record, result, finders)
        if record.exhaustive:
            self._exhaustive += 1
            alarms = (matched.gt_index < 0) & ~matched.ignored
            self._false_alarms += int((alarms & (result.scores >= self._options.alarm_score)).sum())
            self._coco.add(record, result)

    def metrics(self) -> dict[str, float]:
        """Return the metrics so far. Metrics without data are omitted, so that all are finite."""
        values = self._coco.metrics()
        for attribute, labels, predictions in self.matched():
            scores = self._score(attribute, predictions, labels)
            if attribute.name in self.intervals:
                interval = self.intervals[attribute.name]
                scores["interval/half_width"] = interval.half_width
                scores["interval/calibrated_on"] = float(interval.labels)
            labelled = self._labelled[attribute.name]
            scores |= {
                "instances": float(self._instances),
                "labelled": float(labelled),
                "misses": float(labelled - len(predictions)),
            }
            values |= {f"{attribute.name}/{name}": value for name, value in scores.items()}
        if self._exhaustive:
            values["detections/false_alarms"] = float(self._false_alarms)
        return values

    def by_group(self) -> dict[tuple[str, str], dict[str, dict[str, float]]]:
        """Return the metrics of each group, by (attribute, grouping), such as (age, gender)."""
        tables: dict[tuple[str, str], dict[str, dict[str, float]]] = {}
        for attribute, labels, predictions in self.matched():
            for by, group, places in self._groups.members(attribute.name):
                rows = [place for place in places if place is not None]
                part = Labels(*(x[rows] for x in labels))
                scores = self._score(attribute, predictions[rows], part)
                if by == attribute.name:
                    scores.pop("macro_f1", None)  # undefined for labels of one class
                counts = {"labelled": len(places), "misses": len(places) - len(rows)}
                scores = {name: float(count) for name, count in counts.items()} | scores
                tables.setdefault((attribute.name, by), {})[group] = scores
        return tables

    def group_metrics(self) -> dict[str, float]:
        """Return `by_group` as the flat metrics of metrics.json: `age/by_gender/female/mae`."""
        return {
            f"{attribute}/by_{by}/{group}/{name}": value
            for (attribute, by), table in self.by_group().items()
            for group, scores in table.items()
            for name, value in scores.items()
        }

    def calibrate(self, other: "Evaluator") -> None:
        """Calibrate intervals of continuous predictions by the errors in another evaluator.

        Its records must not be training records. Missed instances are not included.
        """
        for attribute, labels, predictions in other.matched():
            if attribute.is_number:
                errors = attribute.errors(predictions, labels)
                interval = calibrate(errors, self._options.coverage)
                if interval is not None:
                    self.intervals[attribute.name] = interval
                else:
                    message = (
                        "%s: %d labels in the validation split are too few for intervals of "
                        "coverage %g"
                    )
                    _log.warning(message, attribute.name, len(errors), self._options.coverage)

    def add_intervals(self, entries: Iterable[dict[str, Any]]) -> None:
        """Add its interval to each number in the entries of predictions.json, in place."""
        for attribute in self.attributes:
            if attribute.name in self.intervals:
                interval = self.intervals[attribute.name]
                for entry in entries:
                    found = entry["attributes"][attribute.name]
                    found["interval"] = interval.around(found["value"], *attribute.bounds)

    def trivial_metrics(self, training: Iterable[Record]) -> dict[str, float]:
        """Return metrics of the best constant predictor fitted to the labels of `training`.

        They have the names of `metrics`, are computed on the matched instances, and are the
        baseline for a model.
        """
        values: dict[str, float] = {}
        labels = gather(self.attributes, training)
        for train, (attribute, test, _) in zip(labels, self.matched(), strict=True):
            scores = attribute.score_constant(train, test)
            values |= {f"{attribute.name}/{name}": value for name, value in scores.items()}
        return values

    def _score(
        self, attribute: Attribute, predictions: np.ndarray, labels: Labels
    ) -> dict[str, float]:
        limit = self._limits.get(attribute.name, 0.0)
        scores = attribute.score(predictions, labels, limit)
        if scores and attribute.name in self.intervals:
            errors = attribute.errors(predictions, labels)
            covered = errors <= self.intervals[attribute.name].half_width
            scores["interval/coverage"] = float(covered.mean())
        return scores

    def curves(self) -> dict[str, np.ndarray]:
        """Return precision by recall, as `CocoScorer.curves`."""
        return self._coco.curves()

    def matched(self) -> Iterator[tuple[Attribute, Labels, np.ndarray]]:
        """Yield each attribute with labels and predictions `[N, E]` of the matched instances."""
        for attribute in self.attributes:
            rows = self._rows[attribute.name]
            size = attribute.prediction_size
            predictions = np.array([row[3] for row in rows], np.float64).reshape(-1, size)
            yield attribute, stack(attribute, rows), predictions

    def _match(self, record: Record, result: Result) -> Match:
        # High scores are matched first, so a detection below a limit takes no match from them.
        truth, threshold = Truth.of(record), self._options.iou_threshold
        return match(result.boxes, result.scores, result.classes, truth, threshold)

    def _add_attribute(
        self, attribute: Attribute, record: Record, result: Result, finders: Mapping[int, int]
    ) -> None:
        for g, instance in enumerate(record.instances):
            values, known = instance.label_of(attribute)
            if instance.crowd or not known.any():
                continue
            self._labelled[attribute.name] += 1
            rows, place = self._rows[attribute.name], None
            if g in finders:
                prediction = result.attributes[attribute.name][finders[g]]
                place = len(rows)
                rows.append((values, known, instance.box, prediction))
            self._groups.add(attribute.name, instance, place)


def _read_limits(options: EvalOptions, attributes: Sequence[Attribute]) -> dict[str, float]:
    continuous = {a.name for a in attributes if a.is_number}
    if unknown := [name for name, _ in options.limits if name not in continuous]:
        raise ValueError(f"config.eval.limits: {unknown[0]!r} must be a continuous attribute")
    return dict(options.limits)


def metric_names(
    categories: Sequence[Category],
    attributes: Sequence[Attribute],
    masks: bool,
    options: EvalOptions | None = None,
) -> list[str]:
    """Return the names of a model's metrics on data with labels for all of them."""
    names = [
        f"{kind}/{name}"
        for kind in (("box", "mask") if masks else ("box",))
        for name in ("AP", "AP50", "AP75", *(f"AP/{category.name}" for category in categories))
    ]
    for attribute in attributes:
        size = attribute.label_size
        labels = Labels(
            np.zeros((1, size)), np.ones((1, size), bool), np.array([[0.0, 0.0, 1.0, 1.0]])
        )
        limit = dict((options or EvalOptions()).limits).get(attribute.name, 0.0)
        scores = attribute.score(np.zeros((1, attribute.prediction_size)), labels, limit)
        counts = ("instances", "labelled", "misses")
        names += [f"{attribute.name}/{name}" for name in (*scores, *counts)]
    return [*names, "detections/false_alarms"]
