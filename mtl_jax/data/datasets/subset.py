"""Some of a source's records."""

from collections.abc import Sequence

import numpy as np

from mtl_jax.data.face_masks.apply import unmasked
from mtl_jax.data.records import Category, Record, Source


class Chosen:
    """The records of a source at `positions`, where some may stand more than once."""

    def __init__(self, source: Source, positions: np.ndarray):
        self.source, self.positions = source, positions
        self.categories: tuple[Category, ...] = source.categories

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, position: int) -> Record:
        return self.source[int(self.positions[position])]

    def group(self, position: int) -> str:
        return self.source.group(int(self.positions[position]))

    def unmasked(self) -> Source:
        return Chosen(unmasked(self.source), self.positions)


def choose(sources: Sequence[Source], count: int) -> tuple[Source, ...]:
    """Give `count` records of all sources, drawn by chance, always the same ones, in their order;
    all where there are no more.
    """
    ends = np.cumsum([len(source) for source in sources])
    total = int(ends[-1])
    drawn = np.sort(np.random.default_rng(0).permutation(total)[:count])
    parts = np.split(drawn, np.searchsorted(drawn, ends[:-1]))
    starts = ends - [len(source) for source in sources]
    return tuple(
        Chosen(source, part - start)
        for source, part, start in zip(sources, parts, starts, strict=True)
        if len(part)
    )
