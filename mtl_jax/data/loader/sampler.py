"""Sampling plans: which records are in the batch of a step.

The plan is a pure function of the seed and the step, so that a run can resume at any step.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache

import numpy as np

from mtl_jax.data.records import Source
from mtl_jax.errors import UserError
from mtl_jax.images.geometry import Size
from mtl_jax.images.resize import ResizeOptions, resize_geometry

# The number after the seed in each generator's key, so that no two uses share a random stream.
_PERMUTATION, _EPOCH_ORDER, _BATCH_ORDER, _EXAMPLE = range(4)


@dataclass(frozen=True)
class Bucket:
    """The records of one padded size."""

    canvas: Size  # height, width of the padded images
    indices: tuple[np.ndarray, ...]  # of each source, among all sources' records, ascending


def find_buckets(sources: Sequence[Source], resize: ResizeOptions) -> list[Bucket]:
    """Group all records by padded size. Records are accessed only if the size depends on them."""
    found: dict[Size, list[list[int]]] = {}
    start = 0
    only = _only_canvas(resize)
    for s, source in enumerate(sources):
        for position in range(len(source)):
            canvas = only or _canvas(source, position, resize)
            found.setdefault(canvas, [[] for _ in sources])[s].append(start + position)
        start += len(source)
    return [
        Bucket(canvas, tuple(np.array(indices, np.int64) for indices in found[canvas]))
        for canvas in sorted(found)
    ]


def _only_canvas(resize: ResizeOptions) -> Size | None:
    if resize.mode in ("crop", "stretch") or (
        resize.mode in ("shorter", "square") and len(resize.canvases) == 1
    ):
        return resize_geometry(1, 1, resize)[0]
    return None


def _canvas(source: Source, position: int, resize: ResizeOptions) -> Size:
    x1, y1, x2, y2 = source[position].frame
    return resize_geometry(y2 - y1, x2 - x1, resize)[0]


def eval_batches(buckets: Sequence[Bucket], batch_size: int) -> list[tuple[Size, np.ndarray]]:
    """Return the batches of one pass over all records: (padded size, indices `[batch_size]`). The
    last batch of each bucket is filled with -1.
    """
    batches = []
    for bucket in buckets:
        indices = np.concatenate(bucket.indices)
        padded = np.full(-(-len(indices) // batch_size) * batch_size, -1, np.int64)
        padded[: len(indices)] = indices
        batches += [(bucket.canvas, rows) for rows in padded.reshape(-1, batch_size)]
    return batches


class TrainingPlan:
    """The sampling plan of training.

    In each epoch, a source with weight w contributes each of its records w times. They are taken
    from an endless sequence of seeded permutations: with weight 0.5 each record is used once in two
    epochs, with 2.0 twice in each. The epochs of a bucket are shuffled, concatenated and divided
    into batches. Records left over at the end of an epoch begin the first batch of the next, so
    none is lost or repeated and no batch is padded. A batch belongs to the epoch of its last
    example. `steps_per_epoch` is the mean number of batches in an epoch, a Fraction.

    Raises UserError for negative weights, a wrong number of weights, or no records.
    """

    def __init__(
        self, buckets: Sequence[Bucket], weights: Sequence[float], batch_size: int, seed: int
    ):
        self.batch_size = batch_size
        self.seed = seed
        self._arguments = (buckets, weights, batch_size, seed)
        self._weights = [Fraction(weight).limit_denominator(10**6) for weight in weights]
        if any(weight < 0 for weight in self._weights):
            raise UserError(f"source weights {tuple(weights)} must not be negative")
        if any(len(bucket.indices) != len(weights) for bucket in buckets):
            raise UserError(f"got {len(weights)} source weights; expected one for each source")
        # Records of weight 0 are not used, not even in place of unreadable ones.
        self.buckets = [
            replace(
                bucket,
                indices=tuple(
                    of if weight else of[:0]
                    for of, weight in zip(bucket.indices, weights, strict=True)
                ),
            )
            for bucket in buckets
        ]
        per_epoch = sum(
            self._weights[s] * len(i) for b in self.buckets for s, i in enumerate(b.indices)
        )
        if not per_epoch:
            raise UserError(
                "there is no training data: the sources have no records, or their weights are 0"
            )
        self.steps_per_epoch = Fraction(per_epoch) / batch_size
        self._bucket_epoch = lru_cache(8)(self._compute_bucket_epoch)
        self._epoch_batches = lru_cache(2)(self._compute_epoch_batches)

    def __reduce__(self) -> tuple[type["TrainingPlan"], tuple[object, ...]]:
        return TrainingPlan, self._arguments  # pickled without its caches

    def batch(self, step: int) -> tuple[Bucket, np.ndarray]:
        """Return the bucket and the record indices `[batch_size]` of a step, counted from 0."""
        epoch = self.epoch_of(step)
        b, first = self._epoch_batches(epoch)[step - self.first_step(epoch)]
        return self.buckets[b], self._bucket_part(b, first, first + self.batch_size)

    def example_rng(self, step: int, row: int) -> np.random.Generator:
        """Return the random generator for the augmentation of one row of a step's batch."""
        return np.random.default_rng((self.seed, _EXAMPLE, step, row))

    def first_step(self, epoch: int) -> int:
        """Return the first step of an epoch, which is also the number of steps before it."""
        return sum(
            self._bucket_length(b, epoch) // self.batch_size for b in range(len(self.buckets))
        )

    def epoch_of(self, step: int) -> int:
        """Return the epoch of a step."""
        epoch = int(step / self.steps_per_epoch)  # a lower bound: epochs are at least this long
        while self.first_step(epoch + 1) <= step:
            epoch += 1
        return epoch

    def _bucket_length(self, b: int, epochs: int) -> int:
        """Return the number of examples in the first `epochs` epochs of a bucket."""
        return sum(self._taken(b, s, epochs) for s in range(len(self._weights)))

    def _taken(self, b: int, s: int, epochs: int) -> int:
        return int(self._weights[s] * len(self.buckets[b].indices[s]) * epochs)

    def _compute_epoch_batches(self, epoch: int) -> list[tuple[int, int]]:
        """Return the epoch's batches in shuffled order: (bucket, position of the first example in
        the bucket's sequence).
        """
        size = self.batch_size
        batches = [
            (b, k * size)
            for b in range(len(self.buckets))
            for k in range(
                self._bucket_length(b, epoch) // size, self._bucket_length(b, epoch + 1) // size
            )
        ]
        order = np.random.default_rng((self.seed, _BATCH_ORDER, epoch)).permutation(len(batches))
        return [batches[i] for i in order]

    def _bucket_part(self, b: int, start: int, stop: int) -> np.ndarray:
        """Return positions `start` to `stop` of the endless sequence of a bucket's epochs."""
        per_epoch = sum(
            w * len(i) for w, i in zip(self._weights, self.buckets[b].indices, strict=True)
        )
        epoch = int(start / per_epoch)  # a lower bound, as in `epoch_of`
        parts = []
        while (first := self._bucket_length(b, epoch)) < stop:
            order = self._bucket_epoch(b, epoch)
            parts.append(order[max(0, start - first) : stop - first])
            epoch += 1
        return np.concatenate(parts)

    def _compute_bucket_epoch(self, b: int, epoch: int) -> np.ndarray:
        parts = [
            self._source_part(b, s, self._taken(b, s, epoch), self._taken(b, s, epoch + 1))
            for s in range(len(self._weights))
        ]
        return np.random.default_rng((self.seed, _EPOCH_ORDER, b, epoch)).permutation(
            np.concatenate(parts)
        )

    def _source_part(self, b: int, s: int, start: int, stop: int) -> np.ndarray:
        """Return positions `start` to `stop` of the endless sequence of permutations of a source's
        records in a bucket.
        """
        indices = self.buckets[b].indices[s]
        if start == stop:
            return indices[:0]
        first, last = start // len(indices), -(-stop // len(indices))
        row = np.concatenate(
            [
                np.random.default_rng((self.seed, _PERMUTATION, b, s, cycle)).permutation(indices)
                for cycle in range(first, last)
            ]
        )
        return row[start - first * len(indices) : stop - first * len(indices)]
