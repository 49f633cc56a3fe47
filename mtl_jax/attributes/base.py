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

A kind is two files: `attributes/KIND.py`, which says all of it that NumPy can (labels, metrics,
CSV columns, what reports show), and `models/attribute_heads/KIND.py` (outputs, loss, decoding). One
line in `declarations.KINDS` and one in `attribute_heads.heads.HEADS` make it known.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from mtl_jax.images.geometry import Geometry, Turn

Label = tuple[np.ndarray, np.ndarray]  # values [V] float32, known [V] bool


class Labels(NamedTuple):
    """One attribute's labels of N instances, in pixels of their images."""

    values: np.ndarray  # [N, V]
    known: np.ndarray  # [N, V] bool
    boxes: np.ndarray  # [N, 4], the instances' annotated boxes

    @property
    def rows(self) -> np.ndarray:
        """Whether the first number of each label is known, `[N]` bool."""
        return self.known[:, 0] if self.known.size else np.zeros(0, bool)


class Confusion(NamedTuple):
    """A figure: how often each class was predicted for each."""

    truth: np.ndarray  # [N] class indices
    predicted: np.ndarray  # [N]
    classes: tuple[str, ...]


class Scatter(NamedTuple):
    """A figure: predicted numbers by annotated ones, and the errors by range."""

    truth: np.ndarray  # [N]
    predicted: np.ndarray  # [N]
    errors: np.ndarray  # [N]


class Bars(NamedTuple):
    """A figure: a number for each name."""

    values: Mapping[str, float]
    label: str


AS_BAD = 0.1  # of the range: a number this far off is as bad as a wrong class
Figure = Confusion | Scatter | Bars


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
    is_number: ClassVar[bool] = False  # predictions are single numbers: intervals, limits, ranges

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
    def class_names(self) -> tuple[str, ...]:
        """The classes that a label may name; () where labels are no classes."""
        return ()

    @property
    def angle_names(self) -> tuple[str, ...]:
        """The angles that a label consists of; () where it consists of none."""
        return ()

    @property
    def point_names(self) -> tuple[str, ...]:
        """The points that a label consists of; () where it consists of none."""
        return ()

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the largest number that is predicted."""
        return -math.inf, math.inf

    @property
    def summary(self) -> str:
        """What is predicted, in a few words for a model card."""
        return self.kind

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
            return self.missing
        values, known = self._read(raw)
        values = np.asarray(values, np.float32)
        if not np.isfinite(values[np.asarray(known)]).all():
            raise ValueError(f"{self.name} is {raw!r}, which is not finite")
        return values, np.asarray(known, bool)

    @property
    def missing(self) -> Label:
        """The label of an instance that has none: nothing is known."""
        return np.zeros(self.label_size, np.float32), np.zeros(self.label_size, bool)

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

    def annotate(self, values: np.ndarray, known: np.ndarray) -> Any:
        """Return the JSON value that `parse` reads as this label; None for a missing one."""
        raise NotImplementedError

    def describe(self, prediction: np.ndarray) -> dict[str, Any]:
        """Give one prediction `[E]` as the JSON object that predictions.json holds."""
        raise NotImplementedError

    def caption(self, prediction: np.ndarray) -> str:
        """Give one prediction `[E]` as a few characters for a picture; '' where it is drawn
        instead.
        """
        raise NotImplementedError

    def cells(self, described: Mapping[str, Any]) -> dict[str, Any]:
        """Return the CSV cells of one prediction, as `describe` gives it, by column name."""
        return {self.name: described["value"]}

    def columns(self, values: np.ndarray, known: np.ndarray) -> Iterator[tuple[str, Any, bool]]:
        """Yield what a data page counts of one label: column name, value, whether it is known."""
        yield self.name, float(values.mean()), bool(known.all())

    def score(
        self, predictions: np.ndarray, labels: Labels, limit: float = 0.0
    ) -> dict[str, float]:
        """Compute the metrics of predictions `[N, E]`; those without a known label are left out.

        `limit` is that of a cumulative score (see Continuous); 0: none.
        """
        raise NotImplementedError

    def constant(self, labels: Labels, box: np.ndarray) -> np.ndarray:
        """Return the best prediction `[E]` for an instance in `box` `[4]` of which nothing else is
        known, fitted to training `labels` with at least one known number.
        """
        raise NotImplementedError

    def score_constant(self, train: Labels, test: Labels) -> dict[str, float]:
        """Compute the metrics of the best constant predictor, fitted to `train`, on `test`; nothing
        where one of them has no known label.
        """
        if not train.known.any() or not test.known.any():
            return {}
        guesses = np.stack([self.constant(train, box) for box in test.boxes])
        return self.score(guesses, test)

    def errors(self, predictions: np.ndarray, labels: Labels) -> np.ndarray:
        """Return the absolute errors of predictions whose label is known; of numbers alone."""
        raise NotImplementedError

    def badness(self, label: Label, prediction: np.ndarray) -> float | None:
        """Return how wrong a prediction is, from 0 (right) to 1; None for kinds without such a
        measure, and for missing labels.
        """
        return None

    def can_group(self) -> bool:
        """Whether metrics can be grouped by this attribute's labels."""
        return bool(self.class_names) or self.is_number

    def group_of(self, values: np.ndarray, width: float) -> str:
        """Name the group of a known label; `width` is that of ranges of numbers."""
        return self.class_names[int(values[0])]

    def order_groups(self, groups: Sequence[str]) -> list[str]:
        """Sort the names of groups for display."""
        return [name for name in self.class_names if name in groups]

    def figures(self, predictions: np.ndarray, labels: Labels) -> Iterator[tuple[str, Figure]]:
        """Yield the figures of a report, each with a name."""
        yield from ()

    def points_of(self, prediction: np.ndarray) -> np.ndarray | None:
        """Return points to draw, `[J, 3]`: x, y, visibility; None where there are none."""
        return None

    def angles_of(self, prediction: np.ndarray) -> dict[str, float] | None:
        """Return the degrees of a head's axes to draw; None where there are none."""
        return None


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


def parse_labels(attributes: Iterable[Attribute], raw: Mapping[str, Any]) -> dict[str, Label]:
    """Parse the labels of one instance, given by attribute name as they are annotated.

    Missing labels, and those of other names, are left out. Raises ValueError with the name of the
    attribute whose label is wrong.
    """
    labels = {}
    for attribute in attributes:
        if raw.get(attribute.name) is None:
            continue
        try:
            labels[attribute.name] = attribute.parse(raw[attribute.name])
        except (ValueError, TypeError, OverflowError) as error:
            raise ValueError(f"attribute {attribute.name}: {error}") from None
    return labels


def mean_errors(differences: np.ndarray) -> dict[str, float]:
    """Return the mean and the standard deviation of absolute differences; nothing for none."""
    errors = np.abs(differences)
    return {"mae": float(errors.mean()), "std": float(errors.std())} if len(errors) else {}


def accuracy(right: np.ndarray) -> dict[str, float]:
    """Return the share of True; nothing for none."""
    return {"accuracy": float(right.mean())} if right.size else {}


def range_name(low: float, high: float) -> str:
    return f"{low:g} to {high:g}"
