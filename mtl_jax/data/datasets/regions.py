"""Regions of pictures to train on, each with the labels of the thing that it shows, or none.

Source: Ranjan et al., HyperFace, 2016 (https://arxiv.org/abs/1603.01249), section 3.2: a region of
overlap (IoU) 0.5 or more with a face is one, below 0.35 none; landmarks and their visibility are
learnt above 0.35, the other labels from 0.5 on.
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
BETWEEN_SHARE = 0.2  # of the regions that show things: those that are between
CROWD_SHARE = 0.5  # a region that lies by more than this in a crowd is no negative
TRIES = 64
MIN_SIDE = 8  # pixels of a region
Finder = Callable[[int], np.ndarray]  # position -> boxes [P, 4]


class RegionSource(Source):
    """`per_picture` regions of every picture of a source; region i depends on the arguments and i
    alone, or, in training, on what is drawn each time.

    A record shows `region`, and holds what that shows: a thing, with the labels that count; nothing
    and exhaustive, a negative; or, where an overlap or a picture that is not exhaustive leaves it
    open, something not exhaustive. `find` gives a picture's proposals; regions of a kind that is
    not among them are drawn: around things (jitter), or anywhere.
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
        return len(self.source) * self.options.per_picture

    def group(self, position: int) -> str:
        return self.source.group(position // self.options.per_picture)

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
        picture, slot = divmod(position, self.options.per_picture)
        record = materialize(self.source[picture])
        proposals = self._proposals(picture)
        things = [t for t in record.instances if not t.crowd]
        wanted = slot < self.options.positive_fraction * self.options.per_picture
        if things and (wanted or not record.exhaustive):
            thing = things[int(rng.integers(len(things)))]
            return self._positive(record, things, thing, proposals, rng)
        return self._negative(record, things, proposals, rng)

    def _proposals(self, picture: int) -> np.ndarray:
        if self._find is None:
            return np.zeros((0, 4))
        try:
            return self._find(picture)
        except (UserError, ValueError, OSError):
            return np.zeros((0, 4))  # what is wrong with it is said where it is read

    def _positive(
        self,
        record: Record,
        things: list[Instance],
        thing: Instance,
        proposals: np.ndarray,
        rng: np.random.Generator,
    ) -> Record:
        """Show a thing by 0.5 and more, or at times by 0.35 to 0.5."""
        box = np.asarray(thing.box, float)
        low, high = (NEGATIVE, POSITIVE) if rng.random() < BETWEEN_SHARE else (POSITIVE, np.inf)
        for candidates in (proposals, around(box, rng, 0.15, 0.2), box[None]):
            frames = to_frames(candidates, record)
            overlap = overlaps(frames, np.array(thing.box))[0][:, 0]
            fitting = frames[(overlap >= low) & (overlap < high)]
            if len(fitting):
                chosen = _frame(fitting[rng.integers(len(fitting))])
                break
        else:
            chosen = _frame(to_frames(box[None], record)[0])
        return self._show(record, things, chosen)

    def _show(self, record: Record, things: list[Instance], frame: Frame) -> Record:
        """Give the record of a region, by the thing that it overlaps most."""
        overlap = overlaps(np.array(frame), _boxes(things))[0][0]
        best, thing = float(overlap.max()), things[int(overlap.argmax())]
        labels = thing.attributes if best > NEGATIVE else {}
        if best < POSITIVE:
            labels = {name: value for name, value in labels.items() if name in self._landmarks}
        thing = replace(thing, attributes=labels, segmentation=None)  # no region wants a mask
        return replace(record, instances=(thing,), exhaustive=best >= POSITIVE, region=frame)

    def _negative(
        self,
        record: Record,
        things: list[Instance],
        proposals: np.ndarray,
        rng: np.random.Generator,
    ) -> Record:
        """Show what is no thing: proposals, else places near things and anywhere."""
        nothing = replace(record, instances=(), exhaustive=False, region=None)
        if not record.exhaustive:
            return nothing
        # Parts of a thing, and much around it, are what is taken for one.
        near = [around(np.asarray(t.box, float), rng, 0.4, 0.8) for t in things]
        drawn = rng.permutation(np.concatenate([anywhere(record, rng), *near]))
        for candidates in (proposals, drawn):
            frames = to_frames(candidates, record)
            iou, _ = overlaps(frames, _boxes(things))
            _, share = overlaps(frames, _boxes([t for t in record.instances if t.crowd]))
            clear = (iou < NEGATIVE).all(1) & (share <= CROWD_SHARE).all(1)
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
    """Give sources of regions; selective search is done first, and kept in `options.cache`, else in
    `folder`.
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
    """Draw boxes `[TRIES, 4]` around one: moved by about `shift` of its sides, scaled by about
    exp(`log_scale`), a bit wider or higher.
    """
    sides = box[2:] - box[:2]
    middle = (box[:2] + box[2:]) / 2 + rng.normal(0, shift, (TRIES, 2)) * sides
    stretch = rng.normal(0, 0.1, (TRIES, 1)) * np.array([0.5, -0.5])
    half = sides / 2 * np.exp(rng.normal(0, log_scale, (TRIES, 1)) + stretch)
    return np.concatenate([middle - half, middle + half], -1)


def anywhere(record: Record, rng: np.random.Generator) -> np.ndarray:
    """Draw squares `[TRIES, 4]` of a picture, small ones as often as large ones."""
    shorter = min(record.width, record.height)
    side = shorter * np.exp(rng.uniform(np.log(0.1), 0, (TRIES, 1)))
    corner = rng.uniform(0, 1, (TRIES, 2)) * (np.array([record.width, record.height]) - side)
    return np.concatenate([corner, corner + side], -1)


def to_frames(boxes: np.ndarray, record: Record) -> np.ndarray:
    """Cut boxes to whole pixels of the picture `[n, 4]`, at least `MIN_SIDE` wide and high where it
    is.
    """
    limit = np.array([record.width, record.height])
    least = np.minimum(MIN_SIDE, limit)
    low = np.clip(np.rint(boxes[:, :2]), 0, limit - least)
    high = np.clip(np.rint(boxes[:, 2:]), low + least, limit)
    return np.concatenate([low, high], -1).astype(int)


def _boxes(things: Sequence[Instance]) -> np.ndarray:
    return np.array([thing.box for thing in things], float)


def _frame(row: np.ndarray) -> Frame:
    x1, y1, x2, y2 = (int(edge) for edge in row)
    return x1, y1, x2, y2
