"""Batches of NumPy arrays from sources: decoded and prepared by threads of tf.data, in an order
that the plan fixes.

TensorFlow moves arrays between threads and nothing else; it is kept from the GPU, which belongs to
JAX.
"""

import atexit
import contextlib
import logging
import os
import weakref
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from mtl_jax.attributes import Attribute
from mtl_jax.data import plan, transforms
from mtl_jax.data.options import DataOptions
from mtl_jax.data.records import Record, Redrawn, Source
from mtl_jax.errors import UserError
from mtl_jax.images import Size
from mtl_jax.types import AttributeLabels, Batch, GroundTruth

# Read by TensorFlow when it is imported: without them it writes lines on stderr that help nobody.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
import tensorflow as tf

tf.config.set_visible_devices([], "GPU")

_log = logging.getLogger(__name__)
_running: weakref.WeakSet[Generator[Batch, None, None]] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    """Stop what is being read while Python still lets its threads finish.

    Later, TensorFlow would wait for threads that wait for the interpreter, for ever.
    """
    for batches in list(_running):
        with contextlib.suppress(ValueError):  # another thread is taking a batch from it
            batches.close()


def steps_per_epoch(
    sources: Sequence[Source], weights: Sequence[float], options: DataOptions, batch_size: int
) -> int:
    """Give the number of steps in which each source is seen `weight` times, rounded; at least 1."""
    examples = sum(weight * len(source) for weight, source in zip(weights, sources, strict=True))
    return max(1, round(examples / batch_size))


def train_batches(
    sources: Sequence[Source],
    weights: Sequence[float],
    attributes: Sequence[Attribute],
    options: DataOptions,
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
) -> Iterator[Batch]:
    """Give augmented batches without end; that of a step depends on `seed` and the step alone.

    Raises UserError that names the file where a picture cannot be read (at the batch that holds
    it).
    """
    order = plan.TrainingPlan(plan.find_buckets(sources, options.resize), weights, batch_size, seed)

    def load(loader: "_Loader", ticket: int) -> Batch:
        step, row = divmod(ticket, batch_size)
        bucket, indices = order.batch(step)
        for index in _with_substitutes(bucket, int(indices[row])):
            example = loader.load(index, bucket.canvas, order.example_rng(step, row))
            if example.valid or options.on_error == "stop":
                return example
        raise UserError(f"none of the pictures for canvas {bucket.canvas} can be read")

    loader = _Loader(sources, attributes, options, load)
    tickets = tf.data.Dataset.range(start_step * batch_size, np.iinfo(np.int64).max)
    report_every = steps_per_epoch(sources, weights, options, batch_size)
    return _start(_batches(loader, tickets, batch_size, report_every))


def eval_batches(
    source: Source, attributes: Sequence[Attribute], options: DataOptions, *, batch_size: int
) -> Iterator[Batch]:
    """Give every example once, without augmentation, grouped by canvas; rows that fill a batch up
    are not valid.

    With `on_error="skip"` the row of a picture that cannot be read is not valid either.
    """
    batches = plan.eval_batches(plan.find_buckets([source], options.resize), batch_size)

    def load(loader: "_Loader", ticket: int) -> Batch:
        canvas, indices = batches[ticket // batch_size]
        return loader.load(int(indices[ticket % batch_size]), canvas, None)

    loader = _Loader([source], attributes, options, load)
    tickets = tf.data.Dataset.range(len(batches) * batch_size)
    return _start(_batches(loader, tickets, batch_size, max(1, len(batches))))


def file_names(sources: Sequence[Source], index: np.ndarray) -> list[str]:
    """Give the file name of each of a batch's `index`; '' where it is -1."""
    return [find_record(sources, int(i)).file_name if i >= 0 else "" for i in np.ravel(index)]


def find_record(sources: Sequence[Source], index: int) -> Record:
    """Give a record by its position among all sources' records."""
    source, position = _find(sources, index)
    return source[position]


def _find(sources: Sequence[Source], index: int) -> tuple[Source, int]:
    for source in sources:
        if index < len(source):
            return source, index
        index -= len(source)
    raise IndexError(f"the sources hold no record {index}")


def _with_substitutes(bucket: plan.Bucket, index: int) -> Iterator[int]:
    """Give a record of a bucket, then the others of it in a fixed order."""
    yield index
    others = np.concatenate(bucket.indices)
    start = int(np.flatnonzero(others == index)[0])
    for i in np.roll(others, -start)[1:]:
        yield int(i)


class _Loader:
    """Make examples in tf.data's threads. What goes wrong there is kept here, since TensorFlow
    would bury it.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        attributes: Sequence[Attribute],
        options: DataOptions,
        load_ticket: Callable[["_Loader", int], Batch],
    ):
        self.sources = sources
        self.attributes = attributes
        self.options = options
        self.failures: dict[int, Exception] = {}  # by ticket
        self.skipped: set[int] = set()
        self.overflowing: set[int] = set()
        self._load_ticket = load_ticket

    def __call__(self, ticket: np.integer) -> list[np.ndarray]:
        try:
            row = self._load_ticket(self, int(ticket))
        except Exception as error:  # `_batches` raises it in place of what TensorFlow makes of it
            self.failures[int(ticket)] = error
            raise
        return _leaves(row)

    def load(self, index: int, canvas: Size, rng: np.random.Generator | None) -> Batch:
        """Give one example; an empty row for -1, and for a picture that cannot be read but may be
        skipped.
        """
        if index < 0:
            return transforms.empty_row(canvas, self.attributes, self.options)
        source, position = _find(self.sources, index)
        if rng is not None and isinstance(source, Redrawn):
            record = source.draw(position, rng)
        else:
            record = source[position]
        try:
            row = transforms.load(record, index, self.attributes, self.options, rng)
        except (ValueError, OSError) as error:
            message = f"{_name(record)}: {_reason(error)}"
            if self.options.on_error == "stop":
                raise UserError(message) from error
            if index not in self.skipped:
                self.skipped.add(index)
                _log.warning("skipped %s", message)
            return transforms.empty_row(canvas, self.attributes, self.options)
        self._count_overflow(record, index)
        return row

    def _count_overflow(self, record: Record, index: int) -> None:
        limit = self.options.max_instances
        if len(record.instances) > limit and index not in self.overflowing:
            if not self.overflowing:
                found = f"{_name(record)} holds {len(record.instances)} instances"
                _log.warning("%s, max_instances=%d are kept; more such are counted", found, limit)
            self.overflowing.add(index)

    def report(self) -> None:
        """Say how many pictures met so far hold more instances than there are slots."""
        if self.overflowing:
            message = "%d pictures hold more than max_instances=%d instances; the rest is not used"
            _log.warning(message, len(self.overflowing), self.options.max_instances)


def _name(record: Record) -> str:
    return str(record.image) if isinstance(record.image, Path) else record.file_name


def _reason(error: Exception) -> str:
    return f"cannot be read ({error.strerror})" if isinstance(error, OSError) else str(error)


def _start(batches: Generator[Batch, None, None]) -> Iterator[Batch]:
    _running.add(batches)
    return batches


def _batches(
    loader: _Loader, tickets: tf.data.Dataset, batch_size: int, report_every: int
) -> Generator[Batch, None, None]:
    """Give the batches of `tickets`, a ticket for each row; raise what went wrong in the batch that
    is due.
    """
    cv2.setNumThreads(0)  # the examples are what runs in parallel
    empty = transforms.empty_row((1, 1), loader.attributes, loader.options)
    types = [leaf.dtype for leaf in _leaves(empty)]

    @tf.autograph.experimental.do_not_convert  # there is nothing to convert
    def load(ticket: tf.Tensor) -> list[tf.Tensor]:
        return tf.numpy_function(loader, [ticket], types)

    examples = tickets.map(load, num_parallel_calls=loader.options.workers, deterministic=True)
    options = tf.data.Options()
    options.threading.private_threadpool_size = loader.options.workers
    dataset = examples.batch(batch_size, drop_remainder=True).prefetch(2).with_options(options)
    failed = tf.errors.OpError  # found now: `tf` is gone when an exiting interpreter closes this
    count = 0
    try:
        for leaves in dataset.as_numpy_iterator():
            yield _from_leaves(tuple(leaves), loader.attributes)
            count += 1
            if count == report_every:
                loader.report()
    except failed:
        if loader.failures:
            raise loader.failures[min(loader.failures)] from None
        raise


def _leaves(row: Batch) -> list[np.ndarray]:
    """Flatten a row for TensorFlow, attributes in the order of their declaration."""
    labels = [array for pair in row.gt.attributes.values() for array in pair]
    picture = [row.images, row.sizes, row.valid, row.exhaustive, row.index]
    return [*picture, *row.gt[:-1], *labels]


def _from_leaves(leaves: Sequence[np.ndarray], attributes: Sequence[Attribute]) -> Batch:
    """Undo `_leaves`, of batches."""
    images, sizes, valid, exhaustive, index, *rest = leaves
    fields = len(GroundTruth._fields) - 1
    truth, labels = rest[:fields], rest[fields:]
    found = {a.name: AttributeLabels(*labels[2 * i : 2 * i + 2]) for i, a in enumerate(attributes)}
    return Batch(images, sizes, valid, exhaustive, index, GroundTruth(*truth, attributes=found))
