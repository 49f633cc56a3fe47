"""The instances with the best and the worst predictions of attributes, for reports."""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mtl_jax.attributes.base import Attribute, Label
from mtl_jax.data.records import Instance, Record
from mtl_jax.results import Result

KEPT = 9  # number of best instances, and of worst


class AttributeCase(NamedTuple):
    """A detected instance with its labels and predictions, by attribute name."""

    record: Record
    instance: Instance
    labels: Mapping[str, Label]
    predictions: Mapping[str, np.ndarray]  # [E]


class AttributeCases:
    """Accumulate predictions image by image, and keep the KEPT instances with the best predictions
    of classes and numbers, and as many with the worst.
    """

    def __init__(self, attributes: Iterable[Attribute]):
        self.attributes: Sequence[Attribute] = tuple(attributes)
        self._best: list[tuple[float, int, AttributeCase]] = []
        self._worst: list[tuple[float, int, AttributeCase]] = []
        self._count = 0

    @property
    def best(self) -> list[AttributeCase]:
        """The best instances, best first."""
        return [case for *_, case in sorted(self._best, reverse=True)]

    @property
    def worst(self) -> list[AttributeCase]:
        """The worst instances, worst first."""
        return [case for *_, case in sorted(self._worst, reverse=True)]

    def add(self, record: Record, result: Result, finders: Mapping[int, int]) -> None:
        """Add an image; `finders` maps the index of an instance to that of its detection."""
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
        self._count += 1  # breaks ties, because cases cannot be compared
        for heap, rank in ((self._best, -error), (self._worst, error)):
            entry = (rank, -self._count, case)
            if len(heap) < KEPT:
                heapq.heappush(heap, entry)
            else:
                heapq.heappushpop(heap, entry)
