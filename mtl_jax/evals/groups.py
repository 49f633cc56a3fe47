"""Whom an instance is one of: women, people in their thirties, those who wear a mask."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mtl_jax.attributes.base import Attribute
from mtl_jax.attributes.categorical import Categorical
from mtl_jax.attributes.continuous import Continuous
from mtl_jax.attributes.ordinal import Ordinal
from mtl_jax.data.records import Instance

_COMPARED = ("mae", "accuracy", "nme")


@dataclass(frozen=True)
class Grouping:
    """By one label: the classes of an attribute, or ranges of `width` of a continuous one.

    `attribute` is None where the config does not declare the label; its texts are then the groups.
    """

    name: str
    width: float
    attribute: Categorical | Ordinal | Continuous | None

    def group_of(self, instance: Instance) -> str | None:
        """Name the group of an instance; None where its label is missing.

        A range begins with its lower end. An interval that crosses ranges is a group of its own.
        """
        raw = instance.attributes.get(self.name)
        if self.attribute is None or raw is None:
            return None if raw is None else str(raw)
        values, known = self.attribute.parse(raw)
        if not known.all():
            return None
        if not isinstance(self.attribute, Continuous):
            return self.attribute.classes[int(values[0])]
        low, high = values.tolist()
        # Rounded: a label is a float32, and 0.7 / 0.1 is below 7.
        first, last = (math.floor(round(end / self.width, 5)) for end in (low, high))
        if first != last:
            return _range(low, high)
        return _range(first * self.width, (first + 1) * self.width)

    def order(self, groups: Sequence[str]) -> list[str]:
        """Put groups into the order of the classes, or of the numbers."""
        if isinstance(self.attribute, Continuous):
            return sorted(groups, key=lambda group: [float(n) for n in group.split(" to ")])
        if self.attribute is None:
            return sorted(groups)
        return [name for name in self.attribute.classes if name in groups]


class Groups:
    """Takes the labelled instances of each attribute, with a place each, None for those missed."""

    def __init__(self, groupings: Sequence[Grouping]):
        self._groupings = tuple(groupings)
        self._places: dict[tuple[str, str], dict[str, list[int | None]]] = {}

    def add(self, attribute: str, instance: Instance, place: int | None) -> None:
        for grouping in self._groupings:
            group = grouping.group_of(instance)
            if group is not None:
                groups = self._places.setdefault((attribute, grouping.name), {})
                groups.setdefault(group, []).append(place)

    def members(self, attribute: str) -> Iterator[tuple[str, str, list[int | None]]]:
        """Give each grouping's name, with each of its groups in order and the places taken."""
        for grouping in self._groupings:
            groups = self._places.get((attribute, grouping.name), {})
            for group in grouping.order(list(groups)):
                yield grouping.name, group, groups[group]


def _range(low: float, high: float) -> str:
    return f"{low:g} to {high:g}"


def columns_of(groups: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Name every metric that any group has, each once."""
    return list(dict.fromkeys(name for scores in groups.values() for name in scores))


def compared_metric(groups: Mapping[str, Mapping[str, float]]) -> str | None:
    """Name the metric that groups are compared by, the first error or accuracy that any has."""
    names = columns_of(groups)
    return next((name for name in names if name.rsplit("/", 1)[-1] in _COMPARED), None)


def read_groupings(
    chosen: Sequence[tuple[str, float]], attributes: Sequence[Attribute]
) -> tuple[Grouping, ...]:
    """Build the groupings of `config.eval.groups`. Raises ValueError for what cannot be grouped
    by.
    """
    declared = {attribute.name: attribute for attribute in attributes}
    if len({name for name, _ in chosen}) < len(chosen):
        raise ValueError("config.eval.groups names an attribute twice")
    found = []
    for name, width in chosen:
        attribute = declared.get(name)
        if not isinstance(attribute, Categorical | Ordinal | Continuous | None):
            raise ValueError(f"config.eval.groups: {name!r} is of kind {attribute.kind}")
        if isinstance(attribute, Continuous) and width <= 0:
            raise ValueError(f"config.eval.groups: give {name!r} the width of its ranges")
        found.append(Grouping(name, float(width), attribute))
    return tuple(found)
