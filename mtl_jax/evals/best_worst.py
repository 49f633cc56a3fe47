"""Which instances' attributes are found best and worst, to look at."""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mtl_jax.attributes.base import Attribute, Label
from mtl_jax.data.records import Instance, Record
from mtl_jax.results import Result

KEPT = 9  # instances of each


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
        self.attributes: Sequence[Attribute] = tuple(attributes)
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
                label = record.instances[i].label_of(attribute)
                prediction = result.attributes[attribute.name][found]
                error = attribute.badness(label, prediction)
                if error is not None:
                    labels[attribute.name], predictions[attribute.name] = label, prediction
                    errors.append(error)
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
