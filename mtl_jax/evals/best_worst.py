"""Which instances' attributes are found best and worst, to look at."""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mtl_jax.attributes.base import Attribute, Label
from mtl_jax.attributes.categorical import Categorical
from mtl_jax.attributes.continuous import Continuous
from mtl_jax.attributes.ordinal import Ordinal
from mtl_jax.data.records import Instance, Record
from mtl_jax.results import Result

KEPT = 9  # instances of each
AS_BAD = 0.1  # of the range: a number that is so far off is as bad as a wrong class


class AttributeCase(NamedTuple):
    """An instance that was found, what is annotated, and what was predicted; by attribute."""

    record: Record
    instance: Instance
    labels: Mapping[str, Label]
    predictions: Mapping[str, np.ndarray]  # [E]


class AttributeCases:
    """Takes one picture after another, and keeps KEPT instances whose classes and numbers are
    predicted best, and as many of the worst.
    """

    def __init__(self, attributes: Iterable[Attribute]):
        self.attributes: Sequence[Attribute] = tuple(
            a for a in attributes if isinstance(a, Categorical | Ordinal | Continuous)
        )
        self._best: list[tuple[float, int, AttributeCase]] = []
        self._worst: list[tuple[float, int, AttributeCase]] = []
        self._count = 0

    @property
    def best(self) -> list[AttributeCase]:
        """The best instances, the best first."""
        return [case for *_, case in sorted(self._best, reverse=True)]

    @property
    def worst(self) -> list[AttributeCase]:
        """The worst instances, the worst first."""
        return [case for *_, case in sorted(self._worst, reverse=True)]

    def add(self, record: Record, result: Result, finders: Mapping[int, int]) -> None:
        """Take a picture; `finders` gives the detection that found an instance, by their places."""
        for i, found in finders.items():
            labels, predictions, errors = {}, {}, []
            for attribute in self.attributes:
                label = attribute.parse(record.instances[i].attributes.get(attribute.name))
                if label[1].all():
                    prediction = result.attributes[attribute.name][found]
                    labels[attribute.name] = label
                    predictions[attribute.name] = prediction
                    errors.append(badness(attribute, label, prediction))
            if errors:
                case = AttributeCase(record, record.instances[i], labels, predictions)
                self._keep(float(np.mean(errors)), case)

    def _keep(self, error: float, case: AttributeCase) -> None:
        self._count += 1  # breaks ties before cases, which have no order, are compared
        for heap, rank in ((self._best, -error), (self._worst, error)):
            entry = (rank, -self._count, case)
            if len(heap) < KEPT:
                heapq.heappush(heap, entry)
            else:
                heapq.heappushpop(heap, entry)


def badness(attribute: Attribute, label: Label, prediction: np.ndarray) -> float:
    """Say how bad a prediction is: 0 is right, 1 as wrong as can be.

    Of classes it is the probability of the others; of numbers the error over AS_BAD of the range.
    """
    values = label[0]
    match attribute:
        case Categorical():
            return 1 - float(prediction[int(values[0])])
        case Ordinal():
            low, high = attribute.levels[0], attribute.levels[-1]
            error = abs(float(prediction[0]) - attribute.levels[int(values[0])])
        case Continuous():
            low, high = attribute.range
            error = max(float(values[0]) - prediction[0], prediction[0] - float(values[1]), 0.0)
        case _:
            raise TypeError(f"no badness for attributes of kind {attribute.kind}")
    return min(float(error) / (AS_BAD * (high - low)), 1.0)
