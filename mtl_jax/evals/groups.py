"""Groups of instances by a label, such as women, people in their thirties, or masked faces."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mtl_jax.attributes.base import Attribute
from mtl_jax.data.records import Instance

_COMPARED = ("mae", "accuracy", "nme")


@dataclass(frozen=True)
class Grouping:
    """A grouping by one label: classes of an attribute, or ranges of `width` of a number."""

    attribute: Attribute
    width: float

    @property
    def name(self) -> str:
        return self.attribute.name

    def group_of(self, instance: Instance) -> str | None:
        """Return the name of an instance's group; None if its label is missing."""
        values, known = instance.label_of(self.attribute)
        return self.attribute.group_of(values, self.width) if known.all() else None


class Groups:
    """Accumulate the labelled instances of each attribute by group."""

    def __init__(self, groupings: Sequence[Grouping]):
        self._groupings = tuple(groupings)
        self._places: dict[tuple[str, str], dict[str, list[int | None]]] = {}

    def add(self, attribute: str, instance: Instance, place: int | None) -> None:
        """Add a labelled instance; `place` is the index of its prediction, None if missed."""
        for grouping in self._groupings:
            group = grouping.group_of(instance)
            if group is not None:
                groups = self._places.setdefault((attribute, grouping.name), {})
                groups.setdefault(group, []).append(place)

    def members(self, attribute: str) -> Iterator[tuple[str, str, list[int | None]]]:
        """Yield each grouping's name, with each of its groups in order and their indices."""
        for grouping in self._groupings:
            groups = self._places.get((attribute, grouping.name), {})
            for group in grouping.attribute.order_groups(list(groups)):
                yield grouping.name, group, groups[group]


def columns_of(groups: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return the names of all metrics that any group has, without repetition."""
    return list(dict.fromkeys(name for scores in groups.values() for name in scores))


def compared_metric(groups: Mapping[str, Mapping[str, float]]) -> str | None:
    """Return the metric that groups are compared by, their first error or accuracy, if any."""
    names = columns_of(groups)
    return next((name for name in names if name.rsplit("/", 1)[-1] in _COMPARED), None)


def read_groupings(
    chosen: Sequence[tuple[str, float]], attributes: Sequence[Attribute]
) -> tuple[Grouping, ...]:
    """Build the groupings of `config.eval.groups`, each by one of `attributes`.

    Raises ValueError if an attribute is unknown, repeated, or cannot be grouped by.
    """
    declared = {attribute.name: attribute for attribute in attributes}
    if len({name for name, _ in chosen}) < len(chosen):
        raise ValueError("config.eval.groups must not repeat an attribute")
    found = []
    for name, width in chosen:
        if name not in declared:
            known = ", ".join(declared)
            raise ValueError(f"config.eval.groups: {name!r} must be one of {known}")
        attribute = declared[name]
        if not attribute.can_group():
            raise ValueError(
                f"config.eval.groups: {name!r} is of kind {attribute.kind}, which has no groups"
            )
        if attribute.is_number and width <= 0:
            raise ValueError(f"config.eval.groups: {name!r} requires a range width above 0")
        found.append(Grouping(attribute, float(width)))
    return tuple(found)
