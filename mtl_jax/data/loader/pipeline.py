"""Input pipeline: batches of NumPy arrays from sources, prefetched in a deterministic order.

Threads of tf.data make the batches, or wait for processes that do. TensorFlow is used for nothing
else, and cannot see the GPU, which is reserved for JAX.
"""

import atexit
import contextlib
import logging
import os
import weakref
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import CancelledError

import cv2
import numpy as np

from mtl_jax.attributes.base import Attribute
from mtl_jax.config.options.data import DataOptions
from mtl_jax.data.loader import collate, sampler
from mtl_jax.data.loader.processes import in_processes
from mtl_jax.data.records import Source
from mtl_jax.errors import FaultSummary
from mtl_jax.types import Batch

# TensorFlow reads these when it is imported; without them it writes irrelevant lines to stderr.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
import tensorflow as tf

tf.config.set_visible_devices([], "GPU")

_log = logging.getLogger(__name__)
_running: weakref.WeakSet[Generator[Batch, None, None]] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    """Close all running pipelines while Python threads can still finish.

    Later, TensorFlow would deadlock: it would wait for threads that wait for the interpreter.
    """
    for batches in list(_running):
        with contextlib.suppress(ValueError):  # another thread is taking a batch from it
            batches.close()


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
    """Return an endless iterator of augmented batches, beginning with `start_step`.

    The batch of a step depends on `seed` and the step only. Raises UserError that names the file if
    an image cannot be read, when its batch is due.
    """
    buckets = sampler.find_buckets(sources, options.resize)
    order = sampler.TrainingPlan(buckets, weights, batch_size, seed)
    maker = collate.TrainingBatches(sources, attributes, options, order)
    steps = range(start_step, np.iinfo(np.int64).max)
    report_after = max(1, round(order.steps_per_epoch))
    return _start(_made_ahead(maker, steps, report_after))


def eval_batches(
    source: Source, attributes: Sequence[Attribute], options: DataOptions, *, batch_size: int
) -> Iterator[Batch]:
    """Return an iterator over all examples, without augmentation and grouped by padded size.

    Rows that only fill the last batch of a size are not valid. With `on_error="skip"`, rows of
    images that cannot be read are not valid either.
    """
    order = sampler.eval_batches(sampler.find_buckets([source], options.resize), batch_size)
    maker = collate.EvalBatches([source], attributes, options, order)
    return _start(_made_ahead(maker, range(len(order)), len(order)))


def file_names(sources: Sequence[Source], index: np.ndarray) -> list[str]:
    """Return the path of the image of each record index of a batch, or its name; '' for -1.

    Paths are not cut when a message is printed.
    """
    find = collate.find_record
    return [find(sources, int(i)).place if i >= 0 else "" for i in np.ravel(index)]


def _start(made: Generator[Batch, None, None]) -> Iterator[Batch]:
    _running.add(made)
    return made


class _Messages:
    """Log each record's warnings once."""

    def __init__(self, max_instances: int):
        self._max_instances = max_instances
        self._unread: set[int] = set()
        self._faults = FaultSummary()
        self._overfull: set[int] = set()

    def add(self, made: collate.Made) -> None:
        for index in made.unread.keys() - self._unread:
            if line := self._faults.add(made.unread[index]):
                _log.warning("skipped %s", line)
        if made.overfull and not self._overfull:
            first = next(iter(made.overfull.values()))
            limit = self._max_instances
            _log.warning(
                "%s, but only max_instances=%d are used; further such images are counted",
                first,
                limit,
            )
        self._unread |= made.unread.keys()
        self._overfull |= made.overfull.keys()

    def report(self) -> None:
        """Log how many of the images so far were skipped without a message, and how many have more
        instances than there are slots.
        """
        for line in self._faults.rest():
            _log.warning("skipped %s", line)
        if self._overfull:
            message = "%d images have more than max_instances=%d instances; the rest is not used"
            _log.warning(message, len(self._overfull), self._max_instances)


def _made_ahead(
    maker: collate.BatchMaker, steps: range, report_after: int
) -> Generator[Batch, None, None]:
    """Yield the batches of `steps`. An exception in a batch is raised when the batch is due."""
    cv2.setNumThreads(0)  # whole batches are made in parallel instead
    options = maker.options
    messages = _Messages(options.max_instances)
    # By step. These bypass TensorFlow, which passes only arrays and would obscure exceptions.
    notes: dict[int, collate.Made] = {}
    failures: dict[int, Exception] = {}
    with contextlib.ExitStack() as stack:
        make: Callable[[int], collate.Made] = maker
        if options.processes:
            make = stack.enter_context(in_processes(maker, options.workers))
        nothing = collate.to_leaves(maker.empty_row((1, 1)))

        def leaves(step: np.integer) -> list[np.ndarray]:
            try:
                made = make(int(step))
            except CancelledError:  # the batch is no longer needed
                return nothing
            except Exception as error:  # TensorFlow would print it at length and more than once
                failures[int(step)] = error
                return nothing
            notes[int(step)] = made._replace(leaves=[])
            return made.leaves

        @tf.autograph.experimental.do_not_convert  # AutoGraph conversion is not needed
        def load(step: tf.Tensor) -> list[tf.Tensor]:
            return tf.numpy_function(leaves, [step], [leaf.dtype for leaf in nothing])

        settings = tf.data.Options()
        settings.threading.private_threadpool_size = options.workers
        dataset = tf.data.Dataset.range(steps.start, steps.stop)
        dataset = dataset.map(load, num_parallel_calls=options.workers, deterministic=True)
        dataset = dataset.prefetch(2).with_options(settings)
        for step, arrays in zip(steps, dataset.as_numpy_iterator(), strict=True):
            if step in failures:
                raise failures[step]
            messages.add(notes.pop(step))
            yield collate.from_leaves(tuple(arrays), maker.attributes)
            if step - steps.start + 1 == report_after:
                messages.report()
