"""A subset of a source's records: a split, a sample, or repeated records."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from mtl_jax.attributes.base import Label
from mtl_jax.data.records import Category, Change, Record, Source, Wrapper
from mtl_jax.images.decode import ALL_LEVELS, Levels


class Subset(Wrapper):
    """The records of a source at `positions`, which may repeat.

    With `classes`, class l becomes `classes[l - 1]` of `categories`; instances that would become
    class 0 are left out. Classes of `categories` that are not in `classes` are unlabelled.
    `labels` are the defaults of instances without a label of an attribute. `exhaustive` replaces
    the records' own value; True also declares that no class is unlabelled. `levels` replaces the
    records' own if it is not the default. `deferred` changes are applied when the pixels are read.
    """

    def __init__(
        self,
        source: Source,
        positions: Sequence[int] | np.ndarray,
        *,
        classes: Sequence[int] | None = None,
        categories: tuple[Category, ...] | None = None,
        labels: Mapping[str, Label] | None = None,
        exhaustive: bool | None = None,
        deferred: tuple[Change, ...] = (),
        levels: Levels = ALL_LEVELS,
    ):
        super().__init__(source)
        self.positions = positions
        self.categories = self.categories if categories is None else categories
        same = classes is None or tuple(classes) == tuple(range(1, len(classes) + 1))
        self._classes = None if same else classes
        every = set() if classes is None or exhaustive else set(range(1, len(self.categories) + 1))
        self._unlabelled = tuple(sorted(every - set(classes or ())))
        self._labels, self._exhaustive, self._deferred = dict(labels or {}), exhaustive, deferred
        self._levels = levels

    def __len__(self) -> int:
        return len(self.positions)

    def inner(self, position: int) -> int:
        return int(self.positions[position])

    def change(self, record: Record) -> Record:
        classes, changes = self._classes, {}
        if classes is not None:
            changes["instances"] = tuple(
                replace(instance, label=classes[instance.label - 1])
                for instance in record.instances
                if classes[instance.label - 1]
            )
            changes["dropped"] = tuple(label and classes[label - 1] for label in record.dropped)
        if self._labels:
            changes["instances"] = tuple(
                replace(instance, attributes={**self._labels, **instance.attributes})
                for instance in changes.get("instances", record.instances)
            )
        if self._exhaustive is not None:
            changes["exhaustive"] = self._exhaustive
        if self._unlabelled:
            changes["unlabelled"] = self._unlabelled
        if self._levels != ALL_LEVELS:
            changes["levels"] = self._levels
        if self._deferred:
            changes["deferred"] = (*record.deferred, *self._deferred)
        return replace(record, **changes) if changes else record


def choose(sources: Sequence[Source], count: int) -> tuple[Source, ...]:
    """Return `count` records of all sources, sampled with a fixed seed and in their original order.
    Returns all records if there are no more than `count`. Sources without a sampled record are left
    out.
    """
    ends = np.cumsum([len(source) for source in sources])
    total = int(ends[-1])
    drawn = np.sort(np.random.default_rng(0).permutation(total)[:count])
    parts = np.split(drawn, np.searchsorted(drawn, ends[:-1]))
    starts = ends - [len(source) for source in sources]
    return tuple(
        Subset(source, part - start)
        for source, part, start in zip(sources, parts, starts, strict=True)
        if len(part)
    )
