"""An attribute that is a number; a label may be an interval."""

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
    """A number within `range`. A label may be an interval (low, high), inside which the loss is 0.

    The losses distribution, classification and coral divide the range into steps. The first two
    learn the probability of each step. Their target is a Gaussian around the number
    (distribution) or the steps next to it (classification); for an interval, the probabilities of
    its steps must add up to 1. coral learns for each step whether the number is above it, except
    for steps within an interval. For the other losses, `scale` is the number that counts as 1 in
    the output and in the loss; 0 is the whole range. An output of 0 means the middle of the range
    or, if not `centered`, the number 0.
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
            raise ValueError(f"attribute {self.name!r}: scale must be 0 or more, got {self.scale}")

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
                f"{self.name} must be a number or (low, high) within {self.range[0]:g} to "
                f"{self.range[1]:g}, got {raw!r}"
            )
        return [low, high], [True, True]

    def as_prediction(self, values: np.ndarray, known: np.ndarray) -> np.ndarray:
        middle = values.mean(-1, keepdims=True, dtype=np.float32)
        return np.where(known.all(-1, keepdims=True), middle, np.float32(np.nan))

    def annotate(self, values: np.ndarray, known: np.ndarray) -> float | list[float] | None:
        if not known.all():
            return None
        # 7 digits are the precision of float32. Rounding must not leave the range.
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
        """Compute `mae` and `std` and, with a `limit`, the cumulative score: the share of errors up
        to the limit, named `cs5` for a limit of 5.
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
        """Return the range of `width` that includes a label; a range includes its lower end.

        An interval that spans several ranges is a group of its own.
        """
        low, high = values.tolist()
        # Rounded, because 0.7 / 0.1 is below 7 in float32.
        first, last = (math.floor(round(end / width, 5)) for end in (low, high))
        if first != last:
            return range_name(low, high)
        return range_name(first * width, (first + 1) * width)

    def order_groups(self, groups: Sequence[str]) -> list[str]:
        return sorted(groups, key=lambda group: [float(n) for n in group.split(" to ")])

    def figures(self, predictions: np.ndarray, labels: Labels) -> Iterator[tuple[str, Figure]]:
        truth, predicted = labels.values[labels.rows].mean(1), predictions[labels.rows, 0]
        yield self.name, Scatter(truth, predicted, self.errors(predictions, labels))
