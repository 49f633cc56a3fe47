"""An attribute that is one of several ordered classes."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from mtl_jax.attributes.base import Attribute, class_index, read_number


@dataclass(frozen=True)
class Ordinal(Attribute):
    """One of `classes` that stand in an order; `levels` are their numbers (0, 1, 2, ... when not
    given).

    Both losses ask of each level but the last whether the label is above it; with coral one score
    answers all of these questions, so that the answers cannot contradict each other.
    """

    classes: tuple[str, ...] = ()
    levels: tuple[float, ...] = ()
    kind: ClassVar[str] = "ordinal"
    losses: ClassVar[tuple[str, ...]] = ("cumulative", "coral")

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.classes) < 2:
            raise ValueError(f"attribute {self.name!r}: give its classes, two or more, in order")
        if not self.levels:
            object.__setattr__(self, "levels", tuple(float(i) for i in range(len(self.classes))))
        if len(self.levels) != len(self.classes) or list(self.levels) != sorted(set(self.levels)):
            raise ValueError(f"attribute {self.name!r}: levels must rise, one for each class")

    def _read(self, raw: Any) -> tuple[Any, Any]:
        if (index := class_index(self.classes, raw)) is not None:
            return [index], [True]
        if not isinstance(raw, str) and read_number(self.name, raw) in self.levels:
            return [self.levels.index(float(raw))], [True]
        raise ValueError(f"{self.name} is {raw!r}, which is none of {', '.join(self.classes)}")

    def as_prediction(self, values: np.ndarray, known: np.ndarray) -> np.ndarray:
        levels = np.asarray(self.levels, np.float32)[values.astype(int)]
        return np.where(known, levels, np.float32(np.nan))

    def describe(self, prediction: np.ndarray) -> dict[str, Any]:
        return {"value": round(float(prediction[0]), 4), "label": self._nearest_class(prediction)}

    def nearest(self, prediction: np.ndarray) -> np.ndarray:
        """Give the class index whose level is nearest to each value `[...]`."""
        return np.abs(np.asarray(prediction)[..., None] - np.asarray(self.levels)).argmin(-1)

    def caption(self, prediction: np.ndarray) -> str:
        return f"{self.name} {self._nearest_class(prediction)}"

    def _nearest_class(self, prediction: np.ndarray) -> str:
        return self.classes[int(self.nearest(prediction[:1])[0])]
