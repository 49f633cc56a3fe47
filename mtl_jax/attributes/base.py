"""What an attribute of an instance is: its kind, its labels, what flipping does to them, how a
prediction reads.

A label travels as two arrays: `values` (V numbers) and `known` (V booleans, False where the number
is missing). A prediction is an array of E numbers. What they are:

    kind         values (V)                                   prediction (E)
    categorical  class index (1)                              probability of each class
    ordinal      class index (1)                              expected value of the level (1)
    continuous   low, high: an interval, or twice one number (2)  value (1)
    pose         degrees, one an angle                        degrees, one an angle
    landmarks    x, y, visible of each point (3 J)            x, y, probability of visible (3 J)

A new kind is a class here, its loss and decoding in `models/attribute_tasks.py`, its metric in
`evals/attributes.py`.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from mtl_jax.images.geometry import Geometry, Turn

Label = tuple[np.ndarray, np.ndarray]  # values [V] float32, known [V] bool


@dataclass(frozen=True)
class Attribute:
    """What all kinds share. `weight` multiplies the attribute's loss; `loss` names one of its
    kind's losses.
    """

    name: str
    weight: float = 1.0
    loss: str = ""
    kind: ClassVar[str]
    losses: ClassVar[tuple[str, ...]]  # the first is the default

    def __post_init__(self) -> None:
        if not self.loss:
            object.__setattr__(self, "loss", self.losses[0])
        if self.loss not in self.losses:
            raise ValueError(
                f"attribute {self.name!r}: loss {self.loss!r} is none of {', '.join(self.losses)}"
            )
        if self.weight < 0:
            raise ValueError(f"attribute {self.name!r}: weight {self.weight} is negative")

    @property
    def label_size(self) -> int:
        """V, the numbers in a label."""
        return 1

    @property
    def prediction_size(self) -> int:
        """E, the numbers in a prediction."""
        return 1

    def parse(self, raw: Any) -> Label:
        """Read a label as annotated; `None` is a missing one. Raises ValueError that says what is
        wrong with it.
        """
        if raw is None:
            return np.zeros(self.label_size, np.float32), np.zeros(self.label_size, bool)
        values, known = self._read(raw)
        values = np.asarray(values, np.float32)
        if not np.isfinite(values[np.asarray(known)]).all():
            raise ValueError(f"{self.name} is {raw!r}, which is not finite")
        return values, np.asarray(known, bool)

    def _check_flip(self, names: tuple[str, ...], pairs: tuple[tuple[str, str], ...]) -> None:
        try:
            exchange_order(names, pairs)
        except ValueError as error:
            raise ValueError(f"attribute {self.name!r}: {error}") from None

    def _read(self, raw: Any) -> tuple[Any, Any]:
        raise NotImplementedError

    def move(self, values: np.ndarray, known: np.ndarray, geometry: Geometry) -> Label:
        """Carry labels `[..., V]` (or a prediction of the same layout) over to the coordinates of
        `geometry`.
        """
        return values, known

    def move_prediction(self, prediction: np.ndarray, geometry: Geometry) -> np.ndarray:
        """Carry predictions `[..., E]` over to the coordinates of `geometry`."""
        return prediction

    def turn(self, values: np.ndarray, turn: Turn) -> np.ndarray:
        """Carry labels `[V]` along when their picture is turned in its plane."""
        return values

    def crop(self, values: np.ndarray, known: np.ndarray, box: np.ndarray) -> Label:
        """Take from labels `[..., V]` what cannot be seen where only `box` `[4]` is left of the
        picture.
        """
        return values, known

    def as_prediction(self, values: np.ndarray, known: np.ndarray) -> np.ndarray:
        """Give labels `[..., V]` as the predictions `[..., E]` that would be right; NaN where a
        label is missing.
        """
        return np.where(known, values, np.nan).astype(np.float32)

    def caption_label(self, values: np.ndarray, known: np.ndarray) -> str:
        """Give a label as `caption` gives a prediction."""
        return self.caption(self.as_prediction(values, known))

    def describe(self, prediction: np.ndarray) -> dict[str, Any]:
        """Give one prediction `[E]` as the JSON object that predictions.json holds."""
        raise NotImplementedError

    def caption(self, prediction: np.ndarray) -> str:
        """Give one prediction `[E]` as a few characters for a picture; '' where it is drawn
        instead.
        """
        raise NotImplementedError


def read_number(name: str, raw: Any) -> float:
    if isinstance(raw, bool) or not isinstance(raw, int | float | np.number):
        raise ValueError(f"{name} is {raw!r}, which is not a number")
    return float(raw)


def spellings(raw: Any) -> tuple[str, ...]:
    """Give how the name of a class may be written that is annotated as text, a number or true."""
    if isinstance(raw, bool):
        return str(raw).lower(), str(raw), str(int(raw))
    if isinstance(raw, float) and raw.is_integer():
        return str(raw), str(int(raw))
    return (str(raw),) if isinstance(raw, str | int | float) else ()


def class_index(classes: tuple[str, ...], raw: Any) -> int | None:
    """Give the position of the class that is named so."""
    return next((classes.index(name) for name in spellings(raw) if name in classes), None)


def exchange_order(names: tuple[str, ...], pairs: tuple[tuple[str, str], ...]) -> np.ndarray:
    """Give the permutation of `names` that exchanges each of `pairs`."""
    if len(set(names)) < len(names):
        raise ValueError(f"{', '.join(names)}: a name stands twice")
    order = np.arange(len(names))
    for a, b in pairs:
        if a not in names or b not in names:
            raise ValueError(f"flip pair ({a!r}, {b!r}) names what is not declared")
        i, j = names.index(a), names.index(b)
        if i == j or order[i] != i or order[j] != j:
            raise ValueError(f"flip pair ({a!r}, {b!r}) pairs a name with itself or twice")
        order[i], order[j] = j, i
    return order
