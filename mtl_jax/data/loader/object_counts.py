"""Count the annotated objects that training can use, and report those that it cannot.

Counts are those of images as resized for the network, without augmentation.
"""

import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mtl_jax.config.options.data import DataOptions
from mtl_jax.data.loader import transforms
from mtl_jax.data.records import Record, Source
from mtl_jax.errors import UserError, listed, printable

_log = logging.getLogger(__name__)
SLOW = 5.0  # seconds of counting after which a line says what is read
MAX_LOST = 0.05  # fraction of a class's objects that may be lost without a warning
_LISTED = 10  # classes that a message lists
_COLUMNS = ("taught", "ignored", "lost")
HEADER = ("class", *(f"{split} {name}" for split in ("train", "val") for name in _COLUMNS))


@dataclass(frozen=True)
class ObjectCounts:
    """The numbers of the annotated objects of each class `[K]` in the records of a split."""

    classes: tuple[str, ...]
    taught: np.ndarray  # used as objects
    crowds: np.ndarray  # ignored regions
    beyond: np.ndarray  # lost: more than `max_instances` in their image
    tiny: np.ndarray  # lost: less than a pixel wide or high in the network's input
    dropped: np.ndarray  # lost: left out by `on_error="skip"`
    max_instances: int | None = None

    @property
    def lost(self) -> np.ndarray:
        return self.beyond + self.tiny + self.dropped

    @property
    def annotated(self) -> np.ndarray:
        return self.taught + self.crowds + self.lost

    def of_class(self, i: int) -> "ObjectCounts":
        """Return the counts of one class."""
        arrays = (self.taught, self.crowds, self.beyond, self.tiny, self.dropped)
        one = (array[i : i + 1] for array in arrays)
        return ObjectCounts(self.classes[i : i + 1], *one, max_instances=self.max_instances)

    def reasons(self, crowds: bool = False) -> str:
        """Return how many objects are lost for each reason; with `crowds`, those ignored, too."""
        limit = f"config.data.max_instances={self.max_instances}"
        texts = (
            (self.crowds if crowds else self.crowds[:0], "are crowds, which are ignored"),
            (self.beyond, f"exceed {limit} of their image"),
            (self.tiny, "are under a pixel in the network's input (config.data.resize)"),
            (self.dropped, 'have faults (config.data.on_error="skip" leaves them out)'),
        )
        return ", ".join(f"{int(found.sum())} {text}" for found, text in texts if found.any())


def count_objects(
    sources: Sequence[Source], classes: Sequence[str], options: DataOptions
) -> ObjectCounts:
    """Count the objects of all records. Drawn sources, which have no annotations, and records that
    cannot be read are left out.

    Objects of a model that is trained on regions have a region each, so that none is lost by its
    size or its number. Logs what is read if it takes longer than SLOW.
    """
    late = time.monotonic() + SLOW
    number = sum(len(source) for source in sources if not source.is_drawn)
    limited = not options.regions.proposals
    counts = ObjectCounts(
        tuple(classes),
        *np.zeros((5, len(classes)), int),
        max_instances=options.max_instances if limited else None,
    )
    for source in sources:
        for position in range(0 if source.is_drawn else len(source)):
            try:
                record = source[position]
            except UserError:  # raised again, or skipped, when its batch is due
                continue
            if time.monotonic() > late:
                late = math.inf
                text = "%s: all %d records are read to count their objects, once in a run"
                _log.warning(text, record.place, number)
            _add(counts, record, options if limited else None)
    return counts


def _add(counts: ObjectCounts, record: Record, options: DataOptions | None) -> None:
    np.add.at(counts.dropped, [label - 1 for label in record.dropped if label], 1)
    instances = record.instances
    if not instances:
        return
    labels = np.array([instance.label - 1 for instance in instances])
    crowd = np.array([instance.crowd for instance in instances])
    tiny = beyond = np.zeros(len(instances), bool)
    if options is not None:
        _, geometry = transforms.fit(record, options.resize)
        boxes = geometry.boxes(np.array([instance.box for instance in instances], np.float64))
        tiny = (boxes[:, 2:] - boxes[:, :2]).min(1) < 1
        single = ~(tiny | crowd)
        beyond = single & (np.cumsum(single) > options.max_instances)
    np.add.at(counts.crowds, labels[crowd], 1)
    np.add.at(counts.tiny, labels[tiny & ~crowd], 1)
    np.add.at(counts.beyond, labels[beyond], 1)
    np.add.at(counts.taught, labels[~(tiny | beyond | crowd)], 1)


def table(train: ObjectCounts, val: ObjectCounts) -> list[tuple[object, ...]]:
    """Return the rows below HEADER, one for each class, and their sum if there are several."""
    columns = [column for s in (train, val) for column in (s.taught, s.crowds, s.lost)]
    rows = list(zip(train.classes, *(column.tolist() for column in columns), strict=True))
    total = ("all", *(int(column.sum()) for column in columns))
    return [*rows, total] if len(rows) > 1 else rows


def format_table(train: ObjectCounts, val: ObjectCounts) -> str:
    """Return the table for the terminal, and a line for each split with lost objects."""
    rows = [[printable(str(cell)) for cell in row] for row in (HEADER, *table(train, val))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for name, *numbers in rows:
        cells = (f"{cell:>{width}}" for cell, width in zip(numbers, widths[1:], strict=True))
        lines.append("  ".join([f"{name:<{widths[0]}}", *cells]))
    return "\n".join([*lines, *lost_lines(train, val)])


def lost_lines(train: ObjectCounts, val: ObjectCounts) -> list[str]:
    """Return a line for each split with lost objects, with the reasons."""
    splits = (("train", train), ("val", val))
    return [f"lost in {name}: {counts.reasons()}" for name, counts in splits if counts.lost.any()]


def faults(train: ObjectCounts, val: ObjectCounts, crowd_remedy: str = "") -> Iterator[str]:
    """Yield a line if the training data has annotated objects, but none that can be learned, or one
    for each class of which neither split has an object that can be learned.

    `crowd_remedy` says how crowds can be learned.
    """
    if train.annotated.any() and not train.taught.any():
        cause = _cause(train, crowd_remedy)
        yield f"the training data has no object that can be learned: {cause}"
        return
    unlearned = (train.annotated > 0) & (train.taught + val.taught == 0)
    for i in np.flatnonzero(unlearned).tolist():
        yield (
            f"class {train.classes[i]!r} has no object that can be learned: "
            f"{_cause(train.of_class(i), crowd_remedy)}; add images of it, or leave the class out "
            "(`categories` of the source)"
        )


def _cause(counts: ObjectCounts, crowd_remedy: str) -> str:
    total, crowds = int(counts.annotated.sum()), int(counts.crowds.sum())
    which = (
        f"all {total} objects are crowds"
        if crowds == total
        else (f"of {total} annotated objects, {counts.reasons(crowds=True)}")
    )
    return f"{which}; {crowd_remedy}" if crowds and crowd_remedy else which


def warnings(train: ObjectCounts, val: ObjectCounts, has_val: bool) -> Iterator[str]:
    """Yield a line for each likely mistake in the objects of a training and a validation split."""
    names = [name.casefold() for name in train.classes]
    twins = np.array([names.count(name) > 1 for name in names], bool)
    if twins.any():
        mend = "make them one with `rename` of the source"
        yield f"classes whose names differ only in case: {_list(train, twins)}; {mend}"
    in_train, in_val = train.annotated > 0, val.annotated > 0
    if not in_train.any():
        yield "the training data has no annotated object, so that only background is learned"
    elif (empty := ~(in_train | in_val)).any():
        yield f"classes without an annotated object: {_list(train, empty)}"
    if in_train.any() and (unknown := ~in_train & in_val).any():
        yield f"classes with objects in val, but none in train: {_list(train, unknown)}"
    if (unused := in_train & (train.taught == 0)).any():
        yield f"classes with no object in train that can be learned: {_list(train, unused)}"
    if has_val and not in_val.any() and in_train.any():
        yield "the validation split has no annotated object, so that it has no AP"
    elif has_val and (unmeasured := in_train & ~in_val).any():
        yield f"classes with objects in train, but none in val: {_list(train, unmeasured)}"
    for name, counts in (("train", train), ("val", val)):
        many = counts.lost > MAX_LOST * counts.annotated
        if many.any():
            share = f"more than {MAX_LOST:.0%} of the objects are lost"
            yield f"{name}: {share} in classes: {_list(counts, many)}; {counts.reasons()}"


def _list(counts: ObjectCounts, which: np.ndarray) -> str:
    return listed([repr(counts.classes[i]) for i in np.flatnonzero(which)], _LISTED)
