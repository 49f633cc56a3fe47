"""Make the batch of a step: a pure function that any thread or process can call for any step."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mtl_jax.attributes.base import Attribute
from mtl_jax.config.options.data import DataOptions
from mtl_jax.data.loader import sampler, transforms
from mtl_jax.data.records import Record, Source, named
from mtl_jax.errors import UserError
from mtl_jax.images.geometry import Size
from mtl_jax.types import AttributeLabels, Batch, GroundTruth


class Made(NamedTuple):
    """A batch as returned by `to_leaves`, and warnings about its records by record index."""

    leaves: list[np.ndarray]
    unread: dict[int, str]  # records that cannot be read and are left out, with the fault
    overfull: dict[int, str]  # records with more instances than slots, with their number


@dataclass(frozen=True)
class BatchMaker:
    """Makes the batch of a step. Base class for training and evaluation.

    Raises UserError that names the file if an image cannot be read, unless `options.on_error` is
    "skip".
    """

    sources: Sequence[Source]
    attributes: Sequence[Attribute]
    options: DataOptions

    def __call__(self, step: int) -> Made:
        """Return the batch of a step, counted from 0."""
        made = Made([], {}, {})
        rows = [to_leaves(row) for row in self._rows(step, made)]
        made.leaves.extend(np.stack(arrays) for arrays in zip(*rows, strict=True))
        return made

    def _rows(self, step: int, made: Made) -> Iterator[Batch]:
        raise NotImplementedError

    def _row(self, index: int, canvas: Size, rng: np.random.Generator | None, made: Made) -> Batch:
        """Return one example. Return an empty row for index -1 and for a skipped image."""
        if index < 0:
            return self.empty_row(canvas)
        mend = ""
        try:
            record = self._record(index, rng)
            mend = '; correct or remove it, or set config.data.on_error="skip"'
            with named(record):
                row = transforms.load(record, index, self.attributes, self.options, rng)
        except UserError as error:
            if self.options.on_error == "stop":
                raise UserError(f"{error}{mend}") from error
            made.unread[index] = str(error)
            return self.empty_row(canvas)
        if len(record.instances) > self.options.max_instances:
            made.overfull[index] = f"{record.place} has {len(record.instances)} instances"
        labelled = self._all_classes()
        labelled[list(record.unlabelled)] = False
        return row._replace(labelled=labelled)

    def empty_row(self, canvas: Size) -> Batch:
        """Return a row that is not valid, to fill a batch."""
        empty = transforms.empty_row(canvas, self.attributes, self.options)
        return empty._replace(labelled=self._all_classes())

    def _all_classes(self) -> np.ndarray:
        return np.ones(1 + len(self.sources[0].categories), bool)  # background first

    def _record(self, index: int, rng: np.random.Generator | None) -> Record:
        source, position = find(self.sources, index)
        return source[position] if rng is None else source.draw(position, rng)


@dataclass(frozen=True)
class TrainingBatches(BatchMaker):
    """Batches of augmented examples. A skipped image is replaced by another one."""

    order: sampler.TrainingPlan

    def _rows(self, step: int, made: Made) -> Iterator[Batch]:
        bucket, indices = self.order.batch(step)
        for row, index in enumerate(indices.tolist()):
            yield self._example(bucket, index, step, row, made)

    def _example(
        self, bucket: sampler.Bucket, index: int, step: int, row: int, made: Made
    ) -> Batch:
        for candidate in _with_substitutes(bucket, index):
            rng = self.order.example_rng(step, row)
            example = self._row(candidate, bucket.canvas, rng, made)
            if example.valid:
                return example
        raise UserError(f"none of the images of padded size {bucket.canvas} can be read")


@dataclass(frozen=True)
class EvalBatches(BatchMaker):
    """Batches of examples without augmentation. Rows without an example are not valid."""

    order: Sequence[tuple[Size, np.ndarray]]  # from `sampler.eval_batches`

    def _rows(self, step: int, made: Made) -> Iterator[Batch]:
        canvas, indices = self.order[step]
        for index in indices.tolist():
            yield self._row(index, canvas, None, made)


def find(sources: Sequence[Source], index: int) -> tuple[Source, int]:
    """Return the source and the position in it of record `index` of all sources' records."""
    for source in sources:
        if index < len(source):
            return source, index
        index -= len(source)
    raise IndexError(f"the sources have no record {index}")


def find_record(sources: Sequence[Source], index: int) -> Record:
    """Return record `index` of all sources' records."""
    source, position = find(sources, index)
    return source[position]


def _with_substitutes(bucket: sampler.Bucket, index: int) -> Iterator[int]:
    """Yield a record of a bucket, then the other records of the bucket in a fixed order."""
    yield index
    others = np.concatenate(bucket.indices)
    start = int(np.flatnonzero(others == index)[0])
    for i in np.roll(others, -start)[1:]:
        yield int(i)


def to_leaves(batch: Batch) -> list[np.ndarray]:
    """Flatten a row or a batch to arrays, with attributes in the order of their declaration."""
    labels = [array for pair in batch.gt.attributes.values() for array in pair]
    image = [batch.images, batch.sizes, batch.valid, batch.exhaustive, batch.index, batch.labelled]
    return [*image, *batch.gt[:-1], *labels]


def from_leaves(leaves: Sequence[np.ndarray], attributes: Sequence[Attribute]) -> Batch:
    """Rebuild the batch from the arrays of `to_leaves`."""
    images, sizes, valid, exhaustive, index, labelled, *rest = leaves
    fields = len(GroundTruth._fields) - 1
    truth, labels = rest[:fields], rest[fields:]
    found = {a.name: AttributeLabels(*labels[2 * i : 2 * i + 2]) for i, a in enumerate(attributes)}
    gt = GroundTruth(*truth, attributes=found)
    return Batch(images, sizes, valid, exhaustive, index, gt, labelled)
