"""Attributes of instances: the base class of all kinds, with their labels and predictions.

A label is two arrays: `values` (V numbers) and `known` (V booleans, False where the number is
missing). A prediction is an array of E numbers.

    kind         values (V)                                prediction (E)
    categorical  class index (1)                           probability of each class
    ordinal      class index (1)                           expected level (1)
    continuous   low, high; equal for a single number (2)  value (1)
    pose         degrees of each angle                     degrees of each angle
    landmarks    x, y, visible of each point (3 J)         x, y, probability of visible (3 J)

A kind consists of two files: `attributes/KIND.py` contains all that NumPy can compute (labels,
metrics, CSV columns, figures of reports), and `models/attribute_heads/KIND.py` the outputs, loss
and decoding. It is registered by one line in `declarations.KINDS` and one in
`attribute_heads.heads.HEADS`.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from mtl_jax.images.geometry import Geometry, Turn

Label = tuple[np.ndarray, np.ndarray]  # values [V] float32, known [V] bool


class Labels(NamedTuple):
    """One attribute's labels for N instances, in pixels of their images."""

    values: np.ndarray  # [N, V]
    known: np.ndarray  # [N, V] bool
    boxes: np.ndarray  # [N, 4], the instances' annotated boxes

    @property
    def rows(self) -> np.ndarray:
        """Whether the first number of each label is known, `[N]` bool."""
        return self.known[:, 0] if self.known.size else np.zeros(0, bool)


class Confusion(NamedTuple):
    """Data of a figure: the confusion matrix of classes."""

    truth: np.ndarray  # [N] class indices
    predicted: np.ndarray  # [N]
    classes: tuple[str, ...]


class Scatter(NamedTuple):
    """Data of a figure: predicted against annotated numbers, and errors by range."""

    truth: np.ndarray  # [N]
    predicted: np.ndarray  # [N]
    errors: np.ndarray  # [N]


class Bars(NamedTuple):
    """Data of a figure: a bar chart with one number per name."""

    values: Mapping[str, float]
    label: str  # of the value axis


AS_BAD = 0.1  # an error of this fraction of the range counts as much as a wrong class
Figure = Confusion | Scatter | Bars


@dataclass(frozen=True)
class Attribute:
    """Base class of all kinds. `weight` multiplies the attribute's loss; `loss` names one of the
    kind's losses.
    """

    name: str
    weight: float = 1.0
    loss: str = ""
    kind: ClassVar[str]
    losses: ClassVar[tuple[str, ...]]  # the first is the default
    # those of `losses` that only family 'mask_rcnn' supports
    dense_losses: ClassVar[tuple[str, ...]] = ()
    is_number: ClassVar[bool] = False  # predictions are numbers, with intervals, limits, ranges

    def __post_init__(self) -> None:
        if not self.loss:
            object.__setattr__(self, "loss", self.losses[0])
        if self.loss not in self.losses:
            raise ValueError(
                f"attribute {self.name!r}: loss must be one of {', '.join(self.losses)}, "
                f"got {self.loss!r}"
            )
        if self.weight < 0:
            raise ValueError(f"attribute {self.name!r}: weight must be >= 0, got {self.weight}")

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes that a label may have; () if labels are not classes."""
        return ()

    @property
    def angle_names(self) -> tuple[str, ...]:
        """Names of the label's angles; () if it has none."""
        return ()

    @property
    def point_names(self) -> tuple[str, ...]:
        """Names of the label's points; () if it has none."""
        return ()

    @property
    def bounds(self) -> tuple[float, float]:
        """The smallest and the largest number that can be predicted."""
        return -math.inf, math.inf

    @property
    def summary(self) -> str:
        """A short description of the prediction, for a model card."""
        return self.kind

    @property
    def label_size(self) -> int:
        """V, the number of values in a label."""
        return 1

    @property
    def prediction_size(self) -> int:
        """E, the number of values in a prediction."""
        return 1

    def parse(self, raw: Any) -> Label:
        """Parse an annotated label; `None` is a missing one. Raises ValueError if it is invalid."""
        if raw is None:
            return self.missing
        values, known = self._read(raw)
        values = np.asarray(values, np.float32)
        if not np.isfinite(values[np.asarray(known)]).all():
            raise ValueError(f"{self.name} must be finite, got {raw!r}")
        return values, np.asarray(known, bool)

    @property
    def missing(self) -> Label:
        """The label of an unlabelled instance: all values are unknown."""
        return np.zeros(self.label_size, np.float32), np.zeros(self.label_size, bool)

    def _check_flip(self, names: tuple[str, ...], pairs: tuple[tuple[str, str], ...]) -> None:
        try:
            exchange_order(names, pairs)
        except ValueError as error:
            raise ValueError(f"attribute {self.name!r}: {error}") from None

    def _read(self, raw: Any) -> tuple[Any, Any]:
        raise NotImplementedError

    def move(self, values: np.ndarray, known: np.ndarray, geometry: Geometry) -> Label:
        """Transform labels `[..., V]`, or predictions of the same layout, to the coordinates of
        `geometry`.
        """
        return values, known

    def move_prediction(self, prediction: np.ndarray, geometry: Geometry) -> np.ndarray:
        """Transform predictions `[..., E]` to the coordinates of `geometry`."""
        return prediction

    def turn(self, values: np.ndarray, turn: Turn) -> np.ndarray:
        """Transform a label's values `[V]` for an in-plane rotation of the image."""
        return values

    def crop(self, values: np.ndarray, known: np.ndarray, box: np.ndarray) -> Label:
        """Remove from labels `[..., V]` what is outside a crop of the image to `box` `[4]`."""
        return values, known

    def as_prediction(self, values: np.ndarray, known: np.ndarray) -> np.ndarray:
        """Convert labels `[..., V]` to correct predictions `[..., E]`; NaN for missing labels."""
        return np.where(known, values, np.nan).astype(np.float32)

    def caption_label(self, values: np.ndarray, known: np.ndarray) -> str:
        """Return the caption of a label, in the format of `caption`."""
        return self.caption(self.as_prediction(values, known))

    def annotate(self, values: np.ndarray, known: np.ndarray) -> Any:
        """Return the JSON value that `parse` reads as this label; None for a missing one."""
        raise NotImplementedError

    def describe(self, prediction: np.ndarray) -> dict[str, Any]:
        """Return one prediction `[E]` as a JSON object for predictions.json."""
        raise NotImplementedError

    def caption(self, prediction: np.ndarray) -> str:
        """Return a short text for one prediction `[E]`; '' if the prediction is drawn instead."""
        raise NotImplementedError

    def cells(self, described: Mapping[str, Any]) -> dict[str, Any]:
        """Return the CSV cells by column name of one prediction, the result of `describe`."""
        return {self.name: described["value"]}

    def columns(self, values: np.ndarray, known: np.ndarray) -> Iterator[tuple[str, Any, bool]]:
        """Yield (column name, value, known) of one label, for the statistics of data pages."""
        yield self.name, float(values.mean()), bool(known.all())

    def score(
        self, predictions: np.ndarray, labels: Labels, limit: float = 0.0
    ) -> dict[str, float]:
        """Compute the metrics of the predictions `[N, E]` with known labels.

        Metrics without any known label are omitted. `limit` is the error limit of a cumulative
        score (see Continuous); 0 disables the score.
        """
        raise NotImplementedError

    def constant(self, labels: Labels, box: np.ndarray) -> np.ndarray:
        """Return the best constant prediction `[E]` for an instance in `box` `[4]`.

        It is fitted to training `labels`, which must have at least one known number.
        """
        raise NotImplementedError

    def score_constant(self, train: Labels, test: Labels) -> dict[str, float]:
        """Compute the metrics on `test` of the best constant predictor fitted to `train`.

        Empty if one of them has no known label.
        """
        if not train.known.any() or not test.known.any():
            return {}
        guesses = np.stack([self.constant(train, box) for box in test.boxes])
        return self.score(guesses, test)

    def errors(self, predictions: np.ndarray, labels: Labels) -> np.ndarray:
        """Return the absolute errors of predictions with known labels. Requires `is_number`."""
        raise NotImplementedError

    def badness(self, label: Label, prediction: np.ndarray) -> float | None:
        """Return how wrong a prediction is, from 0 (correct) to 1; None for missing labels and for
        kinds without such a measure.
        """
        return None

    def can_group(self) -> bool:
        """Whether metrics can be grouped by this attribute's labels."""
        return bool(self.class_names) or self.is_number

    def group_of(self, values: np.ndarray, width: float) -> str:
        """Return the group's name of a known label; numbers are grouped in ranges of `width`."""
        return self.class_names[int(values[0])]

    def order_groups(self, groups: Sequence[str]) -> list[str]:
        """Sort the names of groups for display."""
        return [name for name in self.class_names if name in groups]

    def figures(self, predictions: np.ndarray, labels: Labels) -> Iterator[tuple[str, Figure]]:
        """Yield the names and the data of a report's figures."""
        yield from ()

    def points_of(self, prediction: np.ndarray) -> np.ndarray | None:
        """Return points to draw, `[J, 3]`: x, y, visibility; None if there are none."""
        return None

    def angles_of(self, prediction: np.ndarray) -> dict[str, float] | None:
        """Return a head's angles to draw, in degrees by name; None if there are none."""
        return None


def read_number(name: str, raw: Any) -> float:
    """Return an annotated number as a float. Raises ValueError if `raw` is not a number."""
    if isinstance(raw, bool) or not isinstance(raw, int | float | np.number):
        raise ValueError(f"{name} must be a number, got {raw!r}")
    return float(raw)


def spellings(raw: Any) -> tuple[str, ...]:
    """Return the class names that an annotated text, number or boolean can mean."""
    if isinstance(raw, bool):
        return str(raw).lower(), str(raw), str(int(raw))
    if isinstance(raw, float) and raw.is_integer():
        return str(raw), str(int(raw))
    return (str(raw),) if isinstance(raw, str | int | float) else ()


def class_index(classes: tuple[str, ...], raw: Any) -> int | None:
    """Return the index of the class that `raw` names; None if there is none."""
    return next((classes.index(name) for name in spellings(raw) if name in classes), None)


def exchange_order(names: tuple[str, ...], pairs: tuple[tuple[str, str], ...]) -> np.ndarray:
    """Return the permutation of `names` that exchanges each of `pairs`.

    Raises ValueError if a name is not unique, unknown, or in more than one pair.
    """
    if len(set(names)) < len(names):
        raise ValueError(f"{', '.join(names)}: names must be unique")
    order = np.arange(len(names))
    for a, b in pairs:
        if a not in names or b not in names:
            raise ValueError(f"flip pair ({a!r}, {b!r}): both names must be declared")
        i, j = names.index(a), names.index(b)
        if i == j or order[i] != i or order[j] != j:
            raise ValueError(f"flip pair ({a!r}, {b!r}): names must differ and be in no other pair")
        order[i], order[j] = j, i
    return order


@dataclass(frozen=True)
class OfClasses(Attribute):
    """An attribute whose label is the index of one of `classes`."""

    classes: tuple[str, ...] = ()

    def annotate(self, values: np.ndarray, known: np.ndarray) -> str | None:
        return self.classes[int(values[0])] if known[0] else None

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.classes

    @property
    def summary(self) -> str:
        return f"one of {', '.join(self.classes)}"

    def columns(self, values: np.ndarray, known: np.ndarray) -> Iterator[tuple[str, Any, bool]]:
        yield self.name, self.classes[int(values[0])], bool(known[0])

    def _truth(self, labels: Labels) -> np.ndarray:
        return labels.values[labels.rows, 0].astype(int)


def parse_labels(attributes: Iterable[Attribute], raw: Mapping[str, Any]) -> dict[str, Label]:
    """Parse the annotated labels `raw` of one instance, by attribute name.

    Missing labels and labels of other names are left out. Raises ValueError that names the
    attribute of an invalid label.
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
    """Return the mean and the standard deviation of absolute differences; {} for none."""
    errors = np.abs(differences)
    return {"mae": float(errors.mean()), "std": float(errors.std())} if len(errors) else {}


def accuracy(right: np.ndarray) -> dict[str, float]:
    """Return the share of True; {} if `right` is empty."""
    return {"accuracy": float(right.mean())} if right.size else {}


def range_name(low: float, high: float) -> str:
    """Return the name of a range of numbers, such as '20 to 30'."""
    return f"{low:g} to {high:g}"
