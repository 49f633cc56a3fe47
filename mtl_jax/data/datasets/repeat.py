"""Repeat-factor sampling: images with rare classes are repeated.

Source: Gupta, Dollar, Girshick, LVIS, 2019, section 4.
"""

from collections import Counter

import numpy as np

from mtl_jax.data.datasets.subset import Subset
from mtl_jax.data.records import Source


def repeat_positions(factors: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return positions in which position i occurs `factors[i]` times. A fractional part is the
    probability of one more occurrence.
    """
    whole = np.floor(factors).astype(int)
    chance = np.random.default_rng(seed).random(len(factors))
    return np.repeat(np.arange(len(factors)), whole + (chance < factors - whole))


def repeat_factors(source: Source, threshold: float) -> np.ndarray:
    """Compute the repeat factor of each record: max(1, sqrt(threshold / f)) of its rarest class,
    where f is the fraction of records that contain the class. Crowds are ignored.
    """
    found = [{t.label for t in source[i].instances if not t.crowd} for i in range(len(source))]
    count = Counter(label for labels in found for label in labels)
    factor = {
        label: max(1.0, np.sqrt(threshold * len(found) / number)) for label, number in count.items()
    }
    return np.array([max((factor[label] for label in labels), default=1.0) for labels in found])


def repeat_rare(source: Source, threshold: float) -> Source:
    """Repeat the records with a class that is in less than the fraction `threshold` of records."""
    return Subset(source, repeat_positions(repeat_factors(source, threshold)))
