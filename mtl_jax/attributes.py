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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from mtl_jax.errors import suggest, wrong_type
from mtl_jax.images import Geometry, Turn

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
            _exchange(names, pairs)
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


def _number(name: str, raw: Any) -> float:
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


def _index_of(classes: tuple[str, ...], raw: Any) -> int | None:
    """Give the position of the class that is named so."""
    return next((classes.index(name) for name in spellings(raw) if name in classes), None)


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
        if (index := _index_of(self.classes, raw)) is not None:
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
        return _exchange(self.classes, self.flip)

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
        if (index := _index_of(self.classes, raw)) is not None:
            return [index], [True]
        if not isinstance(raw, str) and _number(self.name, raw) in self.levels:
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
        low, high = _number(self.name, low), _number(self.name, high)
        if low > high or low < self.range[0] or high > self.range[1]:
            raise ValueError(
                f"{self.name} is {raw!r}, outside its range {self.range[0]:g} to {self.range[1]:g}"
            )
        return [low, high], [True, True]

    def as_prediction(self, values: np.ndarray, known: np.ndarray) -> np.ndarray:
        middle = values.mean(-1, keepdims=True, dtype=np.float32)
        return np.where(known.all(-1, keepdims=True), middle, np.float32(np.nan))

    def describe(self, prediction: np.ndarray) -> dict[str, Any]:
        return {"value": round(float(prediction[0]), 4)}

    def caption(self, prediction: np.ndarray) -> str:
        return f"{self.name} {self._text(float(prediction[0]))}"

    def caption_label(self, values: np.ndarray, known: np.ndarray) -> str:
        low, high = map(self._text, values.tolist())
        return f"{self.name} {low}" if low == high else f"{self.name} {low} to {high}"

    def _text(self, number: float) -> str:
        return f"{number:.{0 if self.range[1] - self.range[0] >= 20 else 2}f}"


@dataclass(frozen=True)
class Pose(Attribute):
    """Angles in degrees: yaw > 0 nose to the image's left, pitch > 0 up, roll > 0 clockwise in the
    image.

    A label is a mapping from angle to degrees (angles may be missing) or the angles in the order of
    `angles`. `scale` is the degrees that count as 1 in the loss.
    """

    angles: tuple[str, ...] = ("yaw", "pitch", "roll")
    scale: float = 45.0
    kind: ClassVar[str] = "pose"
    losses: ClassVar[tuple[str, ...]] = ("smooth_l1", "l1", "l2")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.angles or not set(self.angles) <= {"yaw", "pitch", "roll"}:
            raise ValueError(f"attribute {self.name!r}: angles must be among yaw, pitch, roll")
        if len(set(self.angles)) < len(self.angles):
            raise ValueError(f"attribute {self.name!r}: an angle stands twice in {self.angles}")
        if self.scale <= 0:
            raise ValueError(f"attribute {self.name!r}: scale {self.scale} must be above 0")

    @property
    def label_size(self) -> int:
        return len(self.angles)

    @property
    def prediction_size(self) -> int:
        return len(self.angles)

    def _read(self, raw: Any) -> tuple[Any, Any]:
        if not isinstance(raw, Mapping):
            if (
                isinstance(raw, str)
                or not isinstance(raw, Sequence)
                or len(raw) != len(self.angles)
            ):
                raise ValueError(
                    f"{self.name} is {raw!r}; give {', '.join(self.angles)} in degrees"
                )
            raw = dict(zip(self.angles, raw, strict=True))
        if unknown := set(raw) - {"yaw", "pitch", "roll"}:
            raise ValueError(f"{self.name} has {sorted(unknown)}; angles are yaw, pitch, roll")
        found = [raw.get(angle) for angle in self.angles]
        values = [
            0.0 if value is None else _number(f"{self.name}.{a}", value)
            for a, value in zip(self.angles, found, strict=True)
        ]
        if any(abs(value) > 180 for value in values):
            raise ValueError(f"{self.name} is {raw!r}; angles are degrees within -180 and 180")
        return values, [value is not None for value in found]

    def move(self, values: np.ndarray, known: np.ndarray, geometry: Geometry) -> Label:
        return self.move_prediction(values, geometry), known

    def move_prediction(self, prediction: np.ndarray, geometry: Geometry) -> np.ndarray:
        if not geometry.mirrored:
            return prediction
        return prediction * np.array(
            [1.0 if angle == "pitch" else -1.0 for angle in self.angles], np.float32
        )

    def turn(self, values: np.ndarray, turn: Turn) -> np.ndarray:
        added = [turn.degrees if angle == "roll" else 0.0 for angle in self.angles]
        return ((values + added + 180) % 360 - 180).astype(np.float32)

    def describe(self, prediction: np.ndarray) -> dict[str, Any]:
        return {
            angle: round(float(value), 3)
            for angle, value in zip(self.angles, prediction, strict=True)
        }

    def caption(self, prediction: np.ndarray) -> str:
        known = ~np.isnan(prediction)  # of a label some angles may be missing
        angles = zip(np.array(self.angles)[known], prediction[known], strict=True)
        return " ".join(f"{angle} {value:+.0f}" for angle, value in angles)


@dataclass(frozen=True)
class Landmarks(Attribute):
    """Named `points` with visibility; `flip` pairs the points that a mirror exchanges.

    A label is a list of (x, y), of (x, y, v), or COCO's flat x, y, v list. v as COCO's: 0 not
    labelled, 1 labelled but hidden, 2 visible. None in place of a point: not labelled; (None, None,
    1): hidden, nobody said where.
    """

    points: tuple[str, ...] = ()
    flip: tuple[tuple[str, str], ...] = ()
    kind: ClassVar[str] = "landmarks"
    losses: ClassVar[tuple[str, ...]] = ("smooth_l1", "l1", "l2")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.points:
            raise ValueError(f"attribute {self.name!r}: give the names of its points")
        self._check_flip(self.points, self.flip)

    @property
    def label_size(self) -> int:
        return 3 * len(self.points)

    @property
    def prediction_size(self) -> int:
        return 3 * len(self.points)

    def _read(self, raw: Any) -> tuple[Any, Any]:
        wrong = (
            f"{self.name} must be {len(self.points)} points (x, y) or (x, y, v) with v of 0, 1, 2"
        )
        rows = (
            list(raw) if isinstance(raw, Sequence | np.ndarray) and not isinstance(raw, str) else []
        )
        flat = not any(row is None or isinstance(row, Sequence | np.ndarray) for row in rows)
        if flat and len(rows) == 3 * len(self.points):
            rows = [rows[i : i + 3] for i in range(0, len(rows), 3)]
        if len(rows) != len(self.points):
            raise ValueError(wrong)
        values, known = np.zeros((len(rows), 3), np.float32), np.zeros((len(rows), 3), bool)
        for j, row in enumerate(rows):
            if row is None:
                continue
            if isinstance(row, str) or not isinstance(row, Sequence | np.ndarray):
                raise ValueError(wrong)
            if len(row) not in (2, 3):
                raise ValueError(wrong)
            if len(row) == 3 and _number(self.name, row[2]) not in (0, 1, 2):
                raise ValueError(wrong)
            if len(row) == 3 and row[2] == 0:
                continue
            if len(row) == 3 and row[2] == 1 and row[0] is None and row[1] is None:
                known[j, 2] = True
                continue
            values[j] = (*(_number(self.name, v) for v in row[:2]), len(row) == 3 and row[2] == 2)
            known[j] = (True, True, len(row) == 3)
        return values.reshape(-1), known.reshape(-1)

    def move(self, values: np.ndarray, known: np.ndarray, geometry: Geometry) -> Label:
        values = self.move_prediction(values, geometry)
        if geometry.mirrored:
            known = self._points(known)[..., _exchange(self.points, self.flip), :].reshape(
                known.shape
            )
        return values, known

    def move_prediction(self, prediction: np.ndarray, geometry: Geometry) -> np.ndarray:
        rows = self._points(prediction)
        rows = np.concatenate([geometry.points(rows[..., :2]), rows[..., 2:]], -1)
        if geometry.mirrored:
            rows = rows[..., _exchange(self.points, self.flip), :]
        return rows.reshape(prediction.shape).astype(np.float32)

    def turn(self, values: np.ndarray, turn: Turn) -> np.ndarray:
        rows = self._points(values)
        turned = np.concatenate([turn.points(rows[..., :2]), rows[..., 2:]], -1)
        return turned.reshape(values.shape).astype(np.float32)

    def crop(self, values: np.ndarray, known: np.ndarray, box: np.ndarray) -> Label:
        """Make the points outside `box` not visible, and their places unknown: no pixel tells."""
        rows, known_rows = self._points(values), self._points(known)
        inside = ((rows[..., :2] >= box[:2]) & (rows[..., :2] <= box[2:])).all(-1, keepdims=True)
        seen = np.concatenate([inside, inside, np.ones_like(inside)], -1)
        return (rows * inside).reshape(values.shape), (known_rows & seen).reshape(known.shape)

    def _points(self, flat: np.ndarray) -> np.ndarray:
        return flat.reshape(*flat.shape[:-1], len(self.points), 3)

    def describe(self, prediction: np.ndarray) -> dict[str, Any]:
        rows = self._points(prediction)
        return {
            "points": [
                [round(float(x), 3), round(float(y), 3), round(float(v), 4)] for x, y, v in rows
            ]
        }

    def caption(self, prediction: np.ndarray) -> str:
        return ""


def _exchange(names: tuple[str, ...], pairs: tuple[tuple[str, str], ...]) -> np.ndarray:
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


KINDS: dict[str, type[Attribute]] = {
    cls.kind: cls for cls in (Categorical, Ordinal, Continuous, Pose, Landmarks)
}


def from_config(declared: Mapping[str, Mapping[str, Any]]) -> tuple[Attribute, ...]:
    """Build the attributes that a config declares. Raises ValueError that names the attribute and
    the mistake.
    """
    attributes = []
    for name, options in declared.items():
        options = dict(options)
        said = options.pop("kind", "")
        kind = KINDS.get(said)
        if kind is None:
            known = f"{', '.join(KINDS)}{suggest(said, KINDS)}"
            raise ValueError(f"attribute {name!r}: kind must be one of {known}")
        allowed = {field.name for field in fields(kind)} - {"name"}
        if unknown := set(options) - allowed:
            wrong, right = ", ".join(sorted(unknown)), ", ".join(sorted(allowed))
            near = suggest(min(unknown), allowed)
            raise ValueError(f"attribute {name!r}: {wrong} is none of {right}{near}")
        for field in fields(kind):
            value = options.get(field.name, field.default)
            if field.name != "name" and (wanted := wrong_type(value, field.default)):
                raise ValueError(
                    f"attribute {name!r}: {field.name} is {value!r} and must be {wanted}"
                )
        attributes.append(kind(name=name, **options))
    return tuple(attributes)


def with_defaults(declared: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Give declarations with every option of their kind; one of no known kind as it is."""
    result = {}
    for name, options in declared.items():
        kind = KINDS.get(options.get("kind", ""))
        options_of_kind = {field.name: field.default for field in fields(kind)} if kind else {}
        options_of_kind.pop("name", None)
        result[name] = {**options_of_kind, **options}
    return result
