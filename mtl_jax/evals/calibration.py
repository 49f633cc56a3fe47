"""Whether scores are the shares that are right."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Calibration(NamedTuple):
    """Detections by ranges of their score, all as wide, from 0 to 1."""

    counts: np.ndarray  # [bins]: how many
    hits: np.ndarray  # [bins]: of them right
    error: float  # the mean of |share that is right - mean score| over bins, by their counts


def calibration(scores: Sequence[float], right: Sequence[bool], bins: int) -> Calibration:
    """Compare scores, 0 to 1, with what was right. Source: Naeini et al., Obtaining Well Calibrated
    Probabilities Using Bayesian Binning, 2015.
    """
    place = np.minimum((np.asarray(scores, float) * bins).astype(int), bins - 1)
    counts = np.bincount(place, minlength=bins)
    hits = np.bincount(place, np.asarray(right, float), minlength=bins)
    sums = np.bincount(place, np.asarray(scores, float), minlength=bins)
    return Calibration(counts, hits, float(np.abs(hits - sums).sum() / max(len(place), 1)))
