"""An attribute that is one of several ordered classes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from mtl_jax.attributes.base import (
    AS_BAD,
    Confusion,
    Figure,
    Label,
    Labels,
    OfClasses,
    accuracy,
    class_index,
    mean_errors,
    read_number,
)


@dataclass(frozen=True)
class Ordinal(OfClasses):
    """One of the ordered `classes`; `levels` are their numbers (default 0, 1, 2, ...).

    Both losses train, for each level but the last, a classifier of whether the label is above it.
    With coral these classifiers share one score, so that they cannot contradict each other.
    """

    levels: tuple[float, ...] = ()
    kind: ClassVar[str] = "ordinal"
    losses: ClassVar[tuple[str, ...]] = ("cumulative", "coral")

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.classes) < 2:
            raise ValueError(f"attribute {self.name!r}: classes must be two or more ordered names")
        if not self.levels:
            object.__setattr__(self, "levels", tuple(float(i) for i in range(len(self.classes))))
        if len(self.levels) != len(self.classes) or list(self.levels) != sorted(set(self.levels)):
            raise ValueError(f"attribute {self.name!r}: levels must be increasing, one per class")

    def _read(self, raw: Any) -> tuple[Any, Any]:
        if (index := class_index(self.classes, raw)) is not None:
            return [index], [True]
        if not isinstance(raw, str) and read_number(self.name, raw) in self.levels:
            return [self.levels.index(float(raw))], [True]
        raise ValueError(f"{self.name} must be one of {', '.join(self.classes)}, got {raw!r}")

    def as_prediction(self, values: np.ndarray, known: np.ndarray) -> np.ndarray:
        levels = np.asarray(self.levels, np.float32)[values.astype(int)]
        return np.where(known, levels, np.float32(np.nan))

    def describe(self, prediction: np.ndarray) -> dict[str, Any]:
        return {"value": round(float(prediction[0]), 4), "label": self._nearest_class(prediction)}

    def nearest(self, prediction: np.ndarray) -> np.ndarray:
        """Return the index of the class whose level is nearest to each value `[...]`."""
        return np.abs(np.asarray(prediction)[..., None] - np.asarray(self.levels)).argmin(-1)

    def caption(self, prediction: np.ndarray) -> str:
        return f"{self.name} {self._nearest_class(prediction)}"

    def _nearest_class(self, prediction: np.ndarray) -> str:
        return self.classes[int(self.nearest(prediction[:1])[0])]

    def cells(self, described: Mapping[str, Any]) -> dict[str, Any]:
        return {self.name: described["value"], f"{self.name}/label": described["label"]}

    def score(
        self, predictions: np.ndarray, labels: Labels, limit: float = 0.0
    ) -> dict[str, float]:
        """Compute `mae` and `std` in levels, and the `accuracy` of the nearest class."""
        truth, values = self._truth(labels), predictions[labels.rows, 0]
        differences = values - np.asarray(self.levels)[truth]
        return mean_errors(differences) | accuracy(self.nearest(values) == truth)

    def constant(self, labels: Labels, box: np.ndarray) -> np.ndarray:
        """Return the median level."""
        return np.array([self.levels[round(float(np.median(self._truth(labels))))]])

    def score_constant(self, train: Labels, test: Labels) -> dict[str, float]:
        """Compute the errors of the median level and the accuracy of the most frequent class, the
        best constants for these metrics.
        """
        scores = super().score_constant(train, test)
        if not scores:
            return scores
        frequent = np.bincount(self._truth(train)).argmax()
        return scores | accuracy(self._truth(test) == frequent)

    def badness(self, label: Label, prediction: np.ndarray) -> float | None:
        if not label[1].all():
            return None
        error = abs(float(prediction[0]) - self.levels[int(label[0][0])])
        return min(error / (AS_BAD * (self.levels[-1] - self.levels[0])), 1.0)

    def figures(self, predictions: np.ndarray, labels: Labels) -> Iterator[tuple[str, Figure]]:
        predicted = self.nearest(predictions[labels.rows, 0])
        yield self.name, Confusion(self._truth(labels), predicted, self.classes)
