"""A kind of attribute outside the library: an hour of the day, periodic in 24."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from mtl_jax.attributes.base import Attribute, Figure, Labels, Scatter, mean_errors, read_number


@dataclass(frozen=True)
class Hour(Attribute):
    kind: ClassVar[str] = "hour"
    losses: ClassVar[tuple[str, ...]] = ("l2",)

    def _read(self, raw: Any) -> tuple[Any, Any]:
        if not 0 <= read_number(self.name, raw) < 24:
            raise ValueError(f"{self.name} must be within 0 and 24, got {raw!r}")
        return [raw], [True]

    def annotate(self, values: np.ndarray, known: np.ndarray) -> float | None:
        return round(float(values[0]), 4) if known[0] else None

    def describe(self, prediction: np.ndarray) -> dict[str, Any]:
        return {"value": round(float(prediction[0]), 4)}

    def caption(self, prediction: np.ndarray) -> str:
        return f"{self.name} {float(prediction[0]):.1f} h"

    def score(
        self, predictions: np.ndarray, labels: Labels, limit: float = 0.0
    ) -> dict[str, float]:
        return mean_errors(self._errors(predictions, labels))

    def constant(self, labels: Labels, box: np.ndarray) -> np.ndarray:
        turn = np.exp(2j * np.pi * labels.values[labels.rows, 0] / 24).mean()
        return np.array([np.angle(turn) * 12 / np.pi % 24])

    def figures(self, predictions: np.ndarray, labels: Labels) -> Iterator[tuple[str, Figure]]:
        truth, predicted = labels.values[labels.rows, 0], predictions[labels.rows, 0]
        yield self.name, Scatter(truth, predicted, self._errors(predictions, labels))

    def _errors(self, predictions: np.ndarray, labels: Labels) -> np.ndarray:
        apart = predictions[labels.rows, 0] - labels.values[labels.rows, 0]
        return np.abs((apart + 12) % 24 - 12)
