"""Whom an instance is one of: women, people in their thirties, those who wear a mask."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mtl_jax.attributes.base import Attribute
from mtl_jax.data.records import Instance

_COMPARED = ("mae", "accuracy", "nme")


@dataclass(frozen=True)
class Grouping:
    """By one label: the classes of an attribute, or ranges of `width` of a number."""

    attribute: Attribute
    width: float

    @property
    def name(self) -> str:
        return self.attribute.name

    def group_of(self, instance: Instance) -> str | None:
        """Name the group of an instance; None where its label is missing."""
        values, known = instance.label_of(self.attribute)
        return self.attribute.group_of(values, self.width) if known.all() else None


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
            for group in grouping.attribute.order_groups(list(groups)):
                yield grouping.name, group, groups[group]


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
    """Build the groupings of `config.eval.groups`, each by one of `attributes`. Raises ValueError
    for what cannot be grouped by.
    """
    declared = {attribute.name: attribute for attribute in attributes}
    if len({name for name, _ in chosen}) < len(chosen):
        raise ValueError("config.eval.groups names an attribute twice")
    found = []
    for name, width in chosen:
        if name not in declared:
            known = ", ".join(declared)
            raise ValueError(f"config.eval.groups names {name!r}, which is none of {known}")
        attribute = declared[name]
        if not attribute.can_group():
            raise ValueError(f"config.eval.groups: {name!r} is of kind {attribute.kind}")
        if attribute.is_number and width <= 0:
            raise ValueError(f"config.eval.groups: give {name!r} the width of its ranges")
        found.append(Grouping(attribute, float(width)))
    return tuple(found)
