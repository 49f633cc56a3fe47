"""Calibration of scores: whether a score is the share of correct detections."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Calibration(NamedTuple):
    """Detections in equally wide bins of their score, from 0 to 1."""

    counts: np.ndarray  # [bins] number of detections
    hits: np.ndarray  # [bins] number of correct detections
    error: float  # mean of |share correct - mean score| over bins, weighted by counts


def calibration(scores: Sequence[float], right: Sequence[bool], bins: int) -> Calibration:
    """Compare scores, 0 to 1, with the share of correct detections, and return the expected
    calibration error.

    Source: Naeini et al., Obtaining Well Calibrated Probabilities Using Bayesian Binning, 2015.
    """
    place = np.minimum((np.asarray(scores, float) * bins).astype(int), bins - 1)
    counts = np.bincount(place, minlength=bins)
    hits = np.bincount(place, np.asarray(right, float), minlength=bins)
    sums = np.bincount(place, np.asarray(scores, float), minlength=bins)
    return Calibration(counts, hits, float(np.abs(hits - sums).sum() / max(len(place), 1)))
