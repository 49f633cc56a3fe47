"""An attribute that is a number, or an interval that holds it."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from mtl_jax.attributes.base import (
    AS_BAD,
    Attribute,
    Figure,
    Label,
    Labels,
    Scatter,
    mean_errors,
    range_name,
    read_number,
)


@dataclass(frozen=True)
class Continuous(Attribute):
    """A number within `range`. A label may be an interval (low, high): there is no loss inside
    it.

    The losses distribution, classification and coral cut the range into steps. The first two learn
    how probable each is, around the number or at it alone; of an interval, that the probabilities
    of its steps add up to 1. Coral asks for each step whether the number is above it; steps within
    an interval are left open. For the other losses `scale` is what counts as 1 in the output and in
    the loss; 0: the whole range. An output of 0 means the middle of the range, or, where it is not
    `centered`, the number 0.
    """

    range: tuple[float, float] = (0.0, 1.0)
    scale: float = 0.0
    centered: bool = True
    kind: ClassVar[str] = "continuous"
    is_number: ClassVar[bool] = True
    over_steps: ClassVar[tuple[str, ...]] = ("distribution", "classification", "coral")
    losses: ClassVar[tuple[str, ...]] = ("smooth_l1", "l1", "l2", *over_steps)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.range) != 2 or not self.range[0] < self.range[1]:
            raise ValueError(f"attribute {self.name!r}: range must be (low, high) with low < high")
        if self.scale < 0:
            raise ValueError(f"attribute {self.name!r}: scale {self.scale} is negative")

    @property
    def label_size(self) -> int:
        return 2

    def _read(self, raw: Any) -> tuple[Any, Any]:
        low, high = (
            raw
            if isinstance(raw, Sequence) and not isinstance(raw, str) and len(raw) == 2
            else (raw, raw)
        )
        low, high = read_number(self.name, low), read_number(self.name, high)
        if low > high or low < self.range[0] or high > self.range[1]:
            raise ValueError(
                f"{self.name} is {raw!r}, outside its range {self.range[0]:g} to {self.range[1]:g}"
            )
        return [low, high], [True, True]

    def as_prediction(self, values: np.ndarray, known: np.ndarray) -> np.ndarray:
        middle = values.mean(-1, keepdims=True, dtype=np.float32)
        return np.where(known.all(-1, keepdims=True), middle, np.float32(np.nan))

    def annotate(self, values: np.ndarray, known: np.ndarray) -> float | list[float] | None:
        if not known.all():
            return None
        # A float32's digits; rounding must not leave the range.
        low, high = (float(np.clip(float(f"{value:.7g}"), *self.range)) for value in values)
        return low if low == high else [low, high]

    def describe(self, prediction: np.ndarray) -> dict[str, Any]:
        return {"value": round(float(prediction[0]), 4)}

    def caption(self, prediction: np.ndarray) -> str:
        return f"{self.name} {self._text(float(prediction[0]))}"

    def caption_label(self, values: np.ndarray, known: np.ndarray) -> str:
        low, high = map(self._text, values.tolist())
        return f"{self.name} {low}" if low == high else f"{self.name} {low} to {high}"

    def _text(self, number: float) -> str:
        return f"{number:.{0 if self.range[1] - self.range[0] >= 20 else 2}f}"

    @property
    def bounds(self) -> tuple[float, float]:
        return self.range

    @property
    def summary(self) -> str:
        return "a number from {:g} to {:g}".format(*self.range)

    def score(
        self, predictions: np.ndarray, labels: Labels, limit: float = 0.0
    ) -> dict[str, float]:
        """Compute `mae` and `std`, and the cumulative score, `cs5` for a `limit` of 5: the share of
        errors up to it.
        """
        errors = self.errors(predictions, labels)
        scores = mean_errors(errors)
        if limit and scores:
            scores[f"cs{limit:g}"] = float((errors <= limit).mean())
        return scores

    def constant(self, labels: Labels, box: np.ndarray) -> np.ndarray:
        """Return the median number."""
        return np.array([np.median(labels.values[labels.rows].mean(-1))])

    def errors(self, predictions: np.ndarray, labels: Labels) -> np.ndarray:
        """Return the distances to the nearer end of the labels' intervals, 0 inside."""
        low, high = labels.values[labels.rows].T
        values = predictions[labels.rows, 0]
        return np.maximum(np.maximum(low - values, values - high), 0)

    def badness(self, label: Label, prediction: np.ndarray) -> float | None:
        if not label[1].all():
            return None
        low, high = (float(value) for value in label[0])
        error = float(max(low - prediction[0], prediction[0] - high, 0.0))
        return min(error / (AS_BAD * (self.range[1] - self.range[0])), 1.0)

    def group_of(self, values: np.ndarray, width: float) -> str:
        """Name the range of `width` that a label lies in, which begins with its lower end; an
        interval that crosses ranges is a group of its own.
        """
        low, high = values.tolist()
        # Rounded: a label is a float32, and 0.7 / 0.1 is below 7.
        first, last = (math.floor(round(end / width, 5)) for end in (low, high))
        if first != last:
            return range_name(low, high)
        return range_name(first * width, (first + 1) * width)

    def order_groups(self, groups: Sequence[str]) -> list[str]:
        return sorted(groups, key=lambda group: [float(n) for n in group.split(" to ")])

    def figures(self, predictions: np.ndarray, labels: Labels) -> Iterator[tuple[str, Figure]]:
        truth, predicted = labels.values[labels.rows].mean(1), predictions[labels.rows, 0]
        yield self.name, Scatter(truth, predicted, self.errors(predictions, labels))
