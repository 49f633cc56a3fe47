"""An attribute that is a set of named points, each visible or hidden."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from mtl_jax.attributes.base import (
    Attribute,
    Bars,
    Figure,
    Label,
    Labels,
    accuracy,
    exchange_order,
    read_number,
)
from mtl_jax.images.geometry import Geometry, Turn


@dataclass(frozen=True)
class Landmarks(Attribute):
    """Named `points` with visibility; `flip` pairs the points that mirroring exchanges.

    A label is a list of (x, y), of (x, y, v), or COCO's flat list of x, y, v. v is as in COCO: 0
    not labelled, 1 labelled but hidden, 2 visible. None instead of a point means not labelled,
    (None, None, 1) hidden at an unknown position.
    """

    points: tuple[str, ...] = ()
    flip: tuple[tuple[str, str], ...] = ()
    kind: ClassVar[str] = "landmarks"
    losses: ClassVar[tuple[str, ...]] = ("smooth_l1", "l1", "l2", "heatmap")
    dense_losses: ClassVar[tuple[str, ...]] = ("heatmap",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.points:
            raise ValueError(f"attribute {self.name!r}: points must be one or more names")
        self._check_flip(self.points, self.flip)

    @property
    def label_size(self) -> int:
        return 3 * len(self.points)

    @property
    def prediction_size(self) -> int:
        return 3 * len(self.points)

    def _read(self, raw: Any) -> tuple[Any, Any]:
        wrong = (
            f"{self.name} must be {len(self.points)} points (x, y) or (x, y, v) with v 0, 1 or 2"
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
            if len(row) == 3 and read_number(self.name, row[2]) not in (0, 1, 2):
                raise ValueError(wrong)
            if len(row) == 3 and row[2] == 0:
                continue
            if len(row) == 3 and row[2] == 1 and row[0] is None and row[1] is None:
                known[j, 2] = True
                continue
            values[j] = (
                *(read_number(self.name, v) for v in row[:2]),
                len(row) == 3 and row[2] == 2,
            )
            known[j] = (True, True, len(row) == 3)
        return values.reshape(-1), known.reshape(-1)

    def move(self, values: np.ndarray, known: np.ndarray, geometry: Geometry) -> Label:
        values = self.move_prediction(values, geometry)
        if geometry.mirrored:
            known = self._points(known)[..., exchange_order(self.points, self.flip), :].reshape(
                known.shape
            )
        return values, known

    def move_prediction(self, prediction: np.ndarray, geometry: Geometry) -> np.ndarray:
        rows = self._points(prediction)
        rows = np.concatenate([geometry.points(rows[..., :2]), rows[..., 2:]], -1)
        if geometry.mirrored:
            rows = rows[..., exchange_order(self.points, self.flip), :]
        return rows.reshape(prediction.shape).astype(np.float32)

    def turn(self, values: np.ndarray, turn: Turn) -> np.ndarray:
        rows = self._points(values)
        turned = np.concatenate([turn.points(rows[..., :2]), rows[..., 2:]], -1)
        return turned.reshape(values.shape).astype(np.float32)

    def crop(self, values: np.ndarray, known: np.ndarray, box: np.ndarray) -> Label:
        """Mark the points outside `box` as not visible, and their positions as unknown."""
        rows, known_rows = self._points(values), self._points(known)
        inside = ((rows[..., :2] >= box[:2]) & (rows[..., :2] <= box[2:])).all(-1, keepdims=True)
        seen = np.concatenate([inside, inside, np.ones_like(inside)], -1)
        return (rows * inside).reshape(values.shape), (known_rows & seen).reshape(known.shape)

    def _points(self, flat: np.ndarray) -> np.ndarray:
        return flat.reshape(*flat.shape[:-1], len(self.points), 3)

    def annotate(self, values: np.ndarray, known: np.ndarray) -> list[list[Any] | None] | None:
        if not known.any():
            return None
        rows: list[list[Any] | None] = []
        for (x, y, seen), (located, _, judged) in zip(
            self._points(values), self._points(known), strict=True
        ):
            place = [round(float(x), 4), round(float(y), 4)] if located else [None, None]
            visibility = [2 if seen else 1] if judged else []
            rows.append([*place, *visibility] if located or judged else None)
        return rows

    def describe(self, prediction: np.ndarray) -> dict[str, Any]:
        rows = self._points(prediction)
        return {
            "points": [
                [round(float(x), 3), round(float(y), 3), round(float(v), 4)] for x, y, v in rows
            ]
        }

    def caption(self, prediction: np.ndarray) -> str:
        return ""

    @property
    def point_names(self) -> tuple[str, ...]:
        return self.points

    def cells(self, described: Mapping[str, Any]) -> dict[str, Any]:
        return {
            f"{self.name}/{point}/{part}": value
            for point, values in zip(self.points, described["points"], strict=True)
            for part, value in zip(("x", "y", "visibility"), values, strict=True)
        }

    def columns(self, values: np.ndarray, known: np.ndarray) -> Iterator[tuple[str, Any, bool]]:
        yield f"{self.name}/points", int(known[::3].sum()), bool(known.any())

    def score(
        self, predictions: np.ndarray, labels: Labels, limit: float = 0.0
    ) -> dict[str, float]:
        """Compute `nme` and the `accuracy` of visibility.

        `nme` is the mean over instances of the mean distance of their known points, divided by the
        square root of the annotated box's area.
        """
        errors, placed = self.point_errors(predictions, labels)
        rows = placed.any(-1)
        each = np.where(placed, errors, 0)[rows].sum(-1) / placed[rows].sum(-1)
        values = {"nme": float(each.mean())} if len(each) else {}
        guess, truth, known = (
            self._points(rows)[..., 2] for rows in (predictions, labels.values, labels.known)
        )
        return values | accuracy(((guess >= 0.5) == (truth >= 0.5))[known])

    def constant(self, labels: Labels, box: np.ndarray) -> np.ndarray:
        """Return each point's mean position within its box, and its more frequent visibility."""
        rows, known = self._points(labels.values), self._points(labels.known)
        corner, sides = labels.boxes[:, None, :2], np.diff(labels.boxes.reshape(-1, 2, 2), axis=1)
        rows = np.concatenate(
            [(rows[..., :2] - corner) / np.maximum(sides, 1e-6), rows[..., 2:]], -1
        )
        mean = np.where(known, rows, 0).sum(0) / np.maximum(known.sum(0), 1)
        place = box[:2] + mean[:, :2] * (box[2:] - box[:2])
        return np.concatenate([place, mean[:, 2:].round()], -1).ravel()

    def point_errors(
        self, predictions: np.ndarray, labels: Labels
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the points' distances divided by the square root of the annotated box's area
        `[N, J]`, and which of them are known `[N, J]`; none are in a box without area.
        """
        guess, truth, known = map(self._points, (predictions, labels.values, labels.known))
        sides = labels.boxes[:, 2:] - labels.boxes[:, :2]
        scale = np.sqrt(np.maximum(sides.prod(-1), 1e-12))[:, None]
        distance = np.linalg.norm(guess[..., :2] - truth[..., :2], axis=-1)
        return distance / scale, known[..., 0] & (sides > 0).all(-1, keepdims=True)

    def figures(self, predictions: np.ndarray, labels: Labels) -> Iterator[tuple[str, Figure]]:
        errors, placed = self.point_errors(predictions, labels)
        means = {
            point: float(errors[placed[:, j], j].mean())
            for j, point in enumerate(self.points)
            if placed[:, j].any()
        }
        yield self.name, Bars(means, "distance / sqrt(box area)")

    def points_of(self, prediction: np.ndarray) -> np.ndarray | None:
        return self._points(prediction)


def first_landmarks(attributes: Iterable[Attribute]) -> Landmarks | None:
    """Return the first attribute of kind landmarks; None if there is none."""
    return next((a for a in attributes if isinstance(a, Landmarks)), None)
