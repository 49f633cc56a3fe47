"""Training regions of images, each with the labels of the instance that it overlaps, or none.

Source: Ranjan et al., HyperFace, 2016 (https://arxiv.org/abs/1603.01249), section 3.2. A region is
a positive at an IoU of at least 0.5 with a face and a negative below 0.35. Landmarks and their
visibility are trained above 0.35, the other labels from 0.5.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mtl_jax.attributes.base import Attribute
from mtl_jax.config.options.data import RegionOptions
from mtl_jax.data.datasets.selective_search import SearchedSource, search_all
from mtl_jax.data.pixels import materialize
from mtl_jax.data.records import Category, Frame, Instance, Record, Source, overlaps
from mtl_jax.errors import UserError
from mtl_jax.images.geometry import Turn

POSITIVE, NEGATIVE = 0.5, 0.35
BETWEEN_SHARE = 0.2  # fraction of an instance's regions with an IoU from NEGATIVE to POSITIVE
# A region is not a negative if a crowd or an ignored object covers more than this fraction of it.
IGNORED_PART = 0.5
TRIES = 64  # random candidates for a region
MIN_SIDE = 8  # pixels, smallest side of a region
Finder = Callable[[int], np.ndarray]  # position -> boxes [P, 4]


class RegionSource(Source):
    """A source of `options.per_image` regions of every image of `source`.

    Region i depends on the arguments and i only; `draw` samples a new region each time. The visible
    part of a record is `region`. A positive has one instance with all its labels. A negative has no
    instance and is exhaustive. Other records are not exhaustive: the IoU is in between, the image
    has unannotated objects and no annotated ones, or no negative was found. `find` returns the
    proposals of an image by its position. If no proposal has the required IoU, regions are drawn
    around instances (jitter) or anywhere.
    """

    def __init__(
        self,
        source: Source,
        attributes: Sequence[Attribute],
        options: RegionOptions,
        find: Finder | None = None,
        seed: int = 0,
    ):
        self.source, self.options, self.seed = source, options, seed
        self.categories: tuple[Category, ...] = tuple(source.categories)
        self._landmarks = {a.name for a in attributes if a.point_names}
        self._find = find

    def __len__(self) -> int:
        return len(self.source) * self.options.per_image

    def group(self, position: int) -> str:
        return self.source.group(position // self.options.per_image)

    def __getitem__(self, position: int) -> Record:
        return self._region(position, np.random.default_rng((self.seed, position)))

    def draw(self, position: int, rng: np.random.Generator) -> Record:
        record = self._region(position, rng)
        if not self.options.turn or record.region is None:
            return record
        x1, y1, x2, y2 = record.region
        degrees = float(rng.uniform(-self.options.turn, self.options.turn))
        return replace(record, turn=Turn(degrees, ((x1 + x2) / 2, (y1 + y2) / 2)))

    def _region(self, position: int, rng: np.random.Generator) -> Record:
        index, slot = divmod(position, self.options.per_image)
        record = materialize(self.source[index])
        proposals = self._proposals(index)
        objects = [instance for instance in record.instances if not instance.crowd]
        positive = slot < self.options.positive_fraction * self.options.per_image
        if objects and (positive or not record.exhaustive):
            target = objects[int(rng.integers(len(objects)))]
            return self._positive(record, objects, target, proposals, rng)
        return self._negative(record, objects, proposals, rng)

    def _proposals(self, index: int) -> np.ndarray:
        if self._find is None:
            return np.zeros((0, 4))
        try:
            return self._find(index)
        except (UserError, ValueError, OSError):
            return np.zeros((0, 4))  # the fault is reported when the image is loaded

    def _positive(
        self,
        record: Record,
        objects: list[Instance],
        target: Instance,
        proposals: np.ndarray,
        rng: np.random.Generator,
    ) -> Record:
        """Sample a region with an IoU of at least 0.5 with the target; sometimes 0.35 to 0.5."""
        box = np.asarray(target.box, float)
        low, high = (NEGATIVE, POSITIVE) if rng.random() < BETWEEN_SHARE else (POSITIVE, np.inf)
        for candidates in (proposals, around(box, rng, 0.15, 0.2), box[None]):
            frames = to_frames(candidates, record)
            overlap = overlaps(frames, np.array(target.box))[0][:, 0]
            fitting = frames[(overlap >= low) & (overlap < high)]
            if len(fitting):
                chosen = _frame(fitting[rng.integers(len(fitting))])
                break
        else:
            chosen = _frame(to_frames(box[None], record)[0])
        return self._show(record, objects, chosen)

    def _show(self, record: Record, objects: list[Instance], frame: Frame) -> Record:
        """Return the record of a region with the instance of the largest IoU."""
        overlap = overlaps(np.array(frame), _boxes(objects))[0][0]
        best, target = float(overlap.max()), objects[int(overlap.argmax())]
        labels = target.attributes if best > NEGATIVE else {}
        if best < POSITIVE:
            labels = {name: value for name, value in labels.items() if name in self._landmarks}
        target = replace(target, attributes=labels, segmentation=None)  # masks are not used
        return replace(record, instances=(target,), exhaustive=best >= POSITIVE, region=frame)

    def _negative(
        self,
        record: Record,
        objects: list[Instance],
        proposals: np.ndarray,
        rng: np.random.Generator,
    ) -> Record:
        """Sample a negative: a proposal, or else a random box near an instance or anywhere."""
        nothing = replace(record, instances=(), exhaustive=False, region=None)
        if not record.exhaustive:
            return nothing
        # Parts of an object and boxes much larger than it are the most likely false positives.
        near = [around(np.asarray(each.box, float), rng, 0.4, 0.8) for each in objects]
        drawn = rng.permutation(np.concatenate([anywhere(record, rng), *near]))
        left_out = [np.asarray(box, float) for box in record.ignored]
        crowds = [each for each in record.instances if each.crowd]
        for candidates in (proposals, drawn):
            frames = to_frames(candidates, record)
            iou, _ = overlaps(frames, np.array([*_boxes(objects), *left_out]))
            _, part = overlaps(frames, np.array([*_boxes(crowds), *left_out]))
            clear = (iou < NEGATIVE).all(1) & (part <= IGNORED_PART).all(1)
            if clear.any():
                chosen = rng.choice(np.flatnonzero(clear))
                return replace(nothing, exhaustive=True, region=_frame(frames[chosen]))
        return nothing


def cut_regions(
    sources: Sequence[Source],
    attributes: Sequence[Attribute],
    options: RegionOptions,
    folder: Path,
) -> tuple[Source, ...]:
    """Return a source of regions for each source. Selective search, if it is the kind of proposals,
    is run first and cached in `options.cache`, or by default in `folder`.
    """
    finders: list[Finder | None] = [None] * len(sources)
    if options.proposals != "jitter":
        cache = Path(options.cache or folder)
        searches = [SearchedSource(source, options, cache) for source in sources]
        search_all(searches)
        finders = list(searches)
    return tuple(
        RegionSource(source, attributes, options, find)
        for source, find in zip(sources, finders, strict=True)
    )


def around(box: np.ndarray, rng: np.random.Generator, shift: float, log_scale: float) -> np.ndarray:
    """Draw boxes `[TRIES, 4]` around `box`: shifted by normal noise of `shift` times its sides,
    scaled by exp of normal noise of `log_scale`, with a slightly changed aspect ratio.
    """
    sides = box[2:] - box[:2]
    middle = (box[:2] + box[2:]) / 2 + rng.normal(0, shift, (TRIES, 2)) * sides
    stretch = rng.normal(0, 0.1, (TRIES, 1)) * np.array([0.5, -0.5])
    half = sides / 2 * np.exp(rng.normal(0, log_scale, (TRIES, 1)) + stretch)
    return np.concatenate([middle - half, middle + half], -1)


def anywhere(record: Record, rng: np.random.Generator) -> np.ndarray:
    """Draw squares `[TRIES, 4]` in an image, with log-uniform sides of 0.1 to 1 times its shorter
    side.
    """
    shorter = min(record.width, record.height)
    side = shorter * np.exp(rng.uniform(np.log(0.1), 0, (TRIES, 1)))
    corner = rng.uniform(0, 1, (TRIES, 2)) * (np.array([record.width, record.height]) - side)
    return np.concatenate([corner, corner + side], -1)


def to_frames(boxes: np.ndarray, record: Record) -> np.ndarray:
    """Round boxes `[n, 4]` to whole pixels, clip them to the image, and enlarge them to at least
    `MIN_SIDE` pixels wide and high, if the image is as large.
    """
    limit = np.array([record.width, record.height])
    least = np.minimum(MIN_SIDE, limit)
    low = np.clip(np.rint(boxes[:, :2]), 0, limit - least)
    high = np.clip(np.rint(boxes[:, 2:]), low + least, limit)
    return np.concatenate([low, high], -1).astype(int)


def _boxes(instances: Sequence[Instance]) -> np.ndarray:
    return np.array([instance.box for instance in instances], float)


def _frame(row: np.ndarray) -> Frame:
    x1, y1, x2, y2 = (int(edge) for edge in row)
    return x1, y1, x2, y2
