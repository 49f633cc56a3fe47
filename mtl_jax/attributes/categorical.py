"""An attribute that is one of several classes."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from mtl_jax.attributes.base import Attribute, Label, class_index, exchange_order
from mtl_jax.images.geometry import Geometry


@dataclass(frozen=True)
class Categorical(Attribute):
    """One of `classes`, by its name, or, where none has the number for a name, by its position.
    `flip` pairs classes that a mirror exchanges, as ("left", "right").

    The loss binary_cross_entropy is for two classes: one output says how likely the second is.
    """

    classes: tuple[str, ...] = ()
    flip: tuple[tuple[str, str], ...] = ()
    kind: ClassVar[str] = "categorical"
    losses: ClassVar[tuple[str, ...]] = ("cross_entropy", "binary_cross_entropy")

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.classes) < 2:
            raise ValueError(f"attribute {self.name!r}: give its classes, two or more")
        if self.loss == "binary_cross_entropy" and len(self.classes) != 2:
            raise ValueError(f"attribute {self.name!r}: its loss {self.loss!r} is for two classes")
        self._check_flip(self.classes, self.flip)

    @property
    def prediction_size(self) -> int:
        return len(self.classes)

    def _read(self, raw: Any) -> tuple[Any, Any]:
        if (index := class_index(self.classes, raw)) is not None:
            return [index], [True]
        if not isinstance(raw, str | bool) and raw in range(len(self.classes)):
            return [int(raw)], [True]
        raise ValueError(f"{self.name} is {raw!r}, which is none of {', '.join(self.classes)}")

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
