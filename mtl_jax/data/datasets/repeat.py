"""Repeat-factor sampling: pictures with rare classes come more often.

Source: Gupta, Dollar, Girshick, LVIS, 2019, section 4.
"""

from collections import Counter

import numpy as np

from mtl_jax.data.datasets.subset import Subset
from mtl_jax.data.records import Source


def repeat_positions(factors: np.ndarray, seed: int = 0) -> np.ndarray:
    """Give each position i `factors[i]` times, a fraction of a time by chance."""
    whole = np.floor(factors).astype(int)
    chance = np.random.default_rng(seed).random(len(factors))
    return np.repeat(np.arange(len(factors)), whole + (chance < factors - whole))


def repeat_factors(source: Source, threshold: float) -> np.ndarray:
    """Give, for each record, max(1, sqrt(threshold / f)) of its rarest class; f is the share of
    records that hold the class. Crowds count for nothing.
    """
    found = [{t.label for t in source[i].instances if not t.crowd} for i in range(len(source))]
    count = Counter(label for labels in found for label in labels)
    factor = {
        label: max(1.0, np.sqrt(threshold * len(found) / number)) for label, number in count.items()
    }
    return np.array([max((factor[label] for label in labels), default=1.0) for labels in found])


def repeat_rare(source: Source, threshold: float) -> Source:
    """Repeat records of classes that less than `threshold` of them hold."""
    return Subset(source, repeat_positions(repeat_factors(source, threshold)))
