"""An attribute that is one of several classes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from mtl_jax.attributes.base import (
    Confusion,
    Figure,
    Label,
    Labels,
    OfClasses,
    accuracy,
    class_index,
    exchange_order,
)
from mtl_jax.images.geometry import Geometry


@dataclass(frozen=True)
class Categorical(OfClasses):
    """One of `classes`. A label is a class name or, if no class has that name, a class index.

    `flip` pairs the classes that mirroring exchanges, such as ("left", "right"). The loss
    binary_cross_entropy requires two classes; its only output is the score of the second.
    """

    flip: tuple[tuple[str, str], ...] = ()
    kind: ClassVar[str] = "categorical"
    losses: ClassVar[tuple[str, ...]] = ("cross_entropy", "binary_cross_entropy")

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.classes) < 2:
            raise ValueError(f"attribute {self.name!r}: classes must be two or more names")
        if self.loss == "binary_cross_entropy" and len(self.classes) != 2:
            raise ValueError(f"attribute {self.name!r}: loss {self.loss!r} requires two classes")
        self._check_flip(self.classes, self.flip)

    @property
    def prediction_size(self) -> int:
        return len(self.classes)

    def _read(self, raw: Any) -> tuple[Any, Any]:
        if (index := class_index(self.classes, raw)) is not None:
            return [index], [True]
        if not isinstance(raw, str | bool) and raw in range(len(self.classes)):
            return [int(raw)], [True]
        raise ValueError(f"{self.name} must be one of {', '.join(self.classes)}, got {raw!r}")

    def move(self, values: np.ndarray, known: np.ndarray, geometry: Geometry) -> Label:
        if not geometry.mirrored or not self.flip:
            return values, known
        return self._mirror()[values.astype(int)].astype(np.float32), known

    def move_prediction(self, prediction: np.ndarray, geometry: Geometry) -> np.ndarray:
        return prediction[..., self._mirror()] if geometry.mirrored and self.flip else prediction

    def _mirror(self) -> np.ndarray:
        return exchange_order(self.classes, self.flip)

    def as_prediction(self, values: np.ndarray, known: np.ndarray) -> np.ndarray:
        one_hot = np.eye(len(self.classes), dtype=np.float32)[values[..., 0].astype(int)]
        return np.where(known, one_hot, np.float32(np.nan))

    def describe(self, prediction: np.ndarray) -> dict[str, Any]:
        scores = {
            name: round(float(p), 6) for name, p in zip(self.classes, prediction, strict=True)
        }
        return {"label": self.classes[int(np.argmax(prediction))], "scores": scores}

    def caption(self, prediction: np.ndarray) -> str:
        return self.classes[int(np.argmax(prediction))]

    def cells(self, described: Mapping[str, Any]) -> dict[str, Any]:
        scores = {f"{self.name}/{name}": score for name, score in described["scores"].items()}
        return {self.name: described["label"], **scores}

    def score(
        self, predictions: np.ndarray, labels: Labels, limit: float = 0.0
    ) -> dict[str, float]:
        """Compute `accuracy`, and `macro_f1` over the classes that are labelled or predicted."""
        predicted, truth = predictions[labels.rows].argmax(-1), self._truth(labels)
        if not len(truth):
            return {}
        f1 = []
        for k in np.union1d(predicted, truth):
            both = ((predicted == k) & (truth == k)).sum()
            f1.append(2 * both / ((predicted == k).sum() + (truth == k).sum()))
        return accuracy(predicted == truth) | {"macro_f1": float(np.mean(f1))}

    def constant(self, labels: Labels, box: np.ndarray) -> np.ndarray:
        """Return the most frequent class."""
        return np.eye(len(self.classes))[np.bincount(self._truth(labels)).argmax()]

    def badness(self, label: Label, prediction: np.ndarray) -> float | None:
        """Return the probability of the other classes."""
        return 1 - float(prediction[int(label[0][0])]) if label[1].all() else None

    def figures(self, predictions: np.ndarray, labels: Labels) -> Iterator[tuple[str, Figure]]:
        predicted = predictions[labels.rows].argmax(-1)
        yield self.name, Confusion(self._truth(labels), predicted, self.classes)
