"""How well an attribute is predicted: the metric of each kind, and what guessing without looking
would score.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from mtl_jax.attributes.base import Attribute
from mtl_jax.attributes.categorical import Categorical
from mtl_jax.attributes.continuous import Continuous
from mtl_jax.attributes.landmarks import Landmarks
from mtl_jax.attributes.ordinal import Ordinal
from mtl_jax.attributes.pose import Pose
from mtl_jax.data.records import Record


class Labels(NamedTuple):
    """One attribute's labels of N instances, in the pictures' own pixels; V as in
    `mtl_jax.attributes.base`.
    """

    values: np.ndarray  # [N, V]
    known: np.ndarray  # [N, V] bool
    boxes: np.ndarray  # [N, 4] the instances' annotated boxes


def gather(attributes: Sequence[Attribute], records: Iterable[Record]) -> list[Labels]:
    """Collect for each attribute the labels of every instance of `records` that has one."""
    rows: list[list[tuple]] = [[] for _ in attributes]
    for record in records:
        for instance in record.instances:
            for attribute, its_rows in zip(attributes, rows, strict=True):
                values, known = attribute.parse(instance.attributes.get(attribute.name))
                if not instance.crowd and known.any():
                    its_rows.append((values, known, instance.box))
    return [
        stack(attribute, its_rows) for attribute, its_rows in zip(attributes, rows, strict=True)
    ]


def stack(attribute: Attribute, rows: list[tuple]) -> Labels:
    """Make arrays of rows (values `[V]`, known `[V]`, box)."""
    size = attribute.label_size
    values = np.array([row[0] for row in rows], np.float64).reshape(-1, size)
    known = np.array([row[1] for row in rows], bool).reshape(-1, size)
    return Labels(values, known, np.array([row[2] for row in rows], np.float64).reshape(-1, 4))


def score(
    attribute: Attribute, predictions: np.ndarray, labels: Labels, limit: float = 0.0
) -> dict[str, float]:
    """Compare predictions `[N, E]` with labels; a metric for which nothing is known is left out.

    `mae` and `std` are the mean and the standard deviation of the absolute error: in the
    attribute's unit, in an ordinal's levels, in degrees around the circle; to the nearer end where
    a label is an interval, 0 inside it. The cumulative score, `cs5` if `limit` is 5, is the share
    of a continuous attribute's errors up to the limit; 0: none. `macro_f1` is over the classes that
    are labelled or predicted. `nme` is the mean over instances of the mean distance of their known
    points over the square root of the annotated box's area; landmarks' `accuracy` is of visibility.
    """
    predictions = np.asarray(predictions, np.float64)
    known = labels.known[:, 0] if labels.known.size else np.zeros(0, bool)
    match attribute:
        case Categorical():
            return _classes(predictions[known].argmax(-1), labels.values[known, 0].astype(int))
        case Ordinal():
            truth = labels.values[known, 0].astype(int)
            values = predictions[known, 0]
            right = attribute.nearest(values) == truth
            return _errors(values - np.asarray(attribute.levels)[truth]) | _accuracy(right)
        case Continuous():
            errors = interval_errors(predictions, labels)
            scores = _errors(errors)
            if limit and scores:
                scores[f"cs{limit:g}"] = float((errors <= limit).mean())
            return scores
        case Pose():
            errors = angle_errors(predictions, labels.values)
            return {
                f"{angle}/{name}": value
                for i, angle in enumerate(attribute.angles)
                for name, value in _errors(errors[labels.known[:, i], i]).items()
            }
        case Landmarks():
            return _landmarks(predictions, labels)
        case _:
            raise TypeError(f"no metric for attributes of kind {attribute.kind!r}")


def interval_errors(predictions: np.ndarray, labels: Labels) -> np.ndarray:
    """Give how far predictions `[N, 1]` of a continuous attribute are from the intervals of those
    labels that are known, 0 inside.
    """
    known = labels.known[:, 0]
    low, high = labels.values[known].T
    values = predictions[known, 0]
    return np.maximum(np.maximum(low - values, values - high), 0)


def angle_errors(predictions: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Give how far angles in degrees are apart around the circle."""
    return np.abs((predictions - truth + 180) % 360 - 180)


def point_errors(predictions: np.ndarray, labels: Labels) -> tuple[np.ndarray, np.ndarray]:
    """Give how far points are from where they are annotated, over the square root of the instance's
    area, `[N, J]`, and of which that is known; of none in a box without area.
    """
    guess, truth, known = map(_points, (predictions, labels.values, labels.known))
    sides = labels.boxes[:, 2:] - labels.boxes[:, :2]
    scale = np.sqrt(np.maximum(sides.prod(-1), 1e-12))[:, None]
    distance = np.linalg.norm(guess[..., :2] - truth[..., :2], axis=-1)
    return distance / scale, known[..., 0] & (sides > 0).all(-1, keepdims=True)


def _points(rows: np.ndarray) -> np.ndarray:
    return rows.reshape(len(rows), rows.shape[1] // 3, 3)


def trivial_metrics(attribute: Attribute, train: Labels, test: Labels) -> dict[str, float]:
    """Score, on `test`, the best constant that `train` gives: what a model must beat.

    That is the most frequent class; the median level, number or angle; and for landmarks the mean
    place of each point within the box, with the more frequent visibility.
    """
    if not train.known.any() or not test.known.any():
        return {}
    guess = np.stack([_constant(attribute, train, box) for box in test.boxes])
    values = score(attribute, guess, test)
    if isinstance(
        attribute, Ordinal
    ):  # the median minimises the error, the most frequent class the mistakes
        counts = np.bincount(train.values[train.known[:, 0], 0].astype(int))
        right = test.values[test.known[:, 0], 0].astype(int) == counts.argmax()
        values |= _accuracy(right)
    return values


def _constant(attribute: Attribute, train: Labels, box: np.ndarray) -> np.ndarray:
    """Give the prediction `[E]` for an instance of which nothing but its box is known."""
    values = np.where(train.known, train.values, np.nan)
    match attribute:
        case Categorical():
            classes = train.values[train.known[:, 0], 0].astype(int)
            return np.eye(len(attribute.classes))[np.bincount(classes).argmax()]
        case Ordinal():
            middle = round(float(np.nanmedian(values)))
            return np.array([attribute.levels[middle]])
        case Continuous():
            return np.array([np.nanmedian(values.mean(-1))])
        case Pose():
            columns = [column[~np.isnan(column)] for column in values.T]
            return np.array([np.median(column) if len(column) else 0.0 for column in columns])
        case Landmarks():
            return _mean_shape(values, train.boxes, box)
        case _:
            raise TypeError(f"no constant guess for attributes of kind {attribute.kind!r}")


def _mean_shape(values: np.ndarray, boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    rows = values.reshape(len(values), -1, 3)
    corner, sides = boxes[:, None, :2], boxes[:, None, 2:] - boxes[:, None, :2]
    rows = np.concatenate([(rows[..., :2] - corner) / np.maximum(sides, 1e-6), rows[..., 2:]], -1)
    known = ~np.isnan(rows)
    mean = np.where(known, rows, 0).sum(0) / np.maximum(known.sum(0), 1)
    place = box[:2] + mean[:, :2] * (box[2:] - box[:2])
    return np.concatenate([place, mean[:, 2:].round()], -1).ravel()


def _errors(differences: np.ndarray) -> dict[str, float]:
    errors = np.abs(differences)
    return {"mae": float(errors.mean()), "std": float(errors.std())} if len(errors) else {}


def _accuracy(right: np.ndarray) -> dict[str, float]:
    return {"accuracy": float(right.mean())} if right.size else {}


def _classes(predicted: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    if not len(truth):
        return {}
    f1 = []
    for k in np.union1d(predicted, truth):
        both = ((predicted == k) & (truth == k)).sum()
        f1.append(2 * both / ((predicted == k).sum() + (truth == k).sum()))
    return _accuracy(predicted == truth) | {"macro_f1": float(np.mean(f1))}


def _landmarks(predictions: np.ndarray, labels: Labels) -> dict[str, float]:
    errors, placed = point_errors(predictions, labels)
    rows = placed.any(-1)
    each = np.where(placed, errors, 0)[rows].sum(-1) / placed[rows].sum(-1)
    values = {"nme": float(each.mean())} if len(each) else {}
    guess, truth, known = (
        _points(rows)[..., 2] for rows in (predictions, labels.values, labels.known)
    )
    return values | _accuracy(((guess >= 0.5) == (truth >= 0.5))[known])
