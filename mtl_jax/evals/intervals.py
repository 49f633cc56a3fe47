"""Prediction intervals of numbers by split conformal prediction.

Source: Lei, G'Sell, Rinaldo, Tibshirani, Wasserman, Distribution-Free Predictive Inference for
Regression, 2018, algorithm 2.
"""

import math
from typing import NamedTuple

import numpy as np


class Interval(NamedTuple):
    """An interval of `half_width` below and above the prediction."""

    half_width: float
    labels: int  # number of labels that it was calibrated on
    coverage: float  # nominal share of labels in the interval

    def around(self, value: float, low: float, high: float) -> list[float]:
        """Return its ends around a prediction, clipped to the attribute's range."""
        return [
            round(max(value - self.half_width, low), 4),
            round(min(value + self.half_width, high), 4),
        ]


def calibrate(errors: np.ndarray, coverage: float) -> Interval | None:
    """Return the interval of a share `coverage` of labels; None if `errors` `[N]` are too few.

    The errors must be of labels that were not trained on. The error of one more label from the same
    distribution has each rank among the N + 1 with equal probability. For any model it is therefore
    at most the error of rank ceil((N + 1) coverage) with a probability of `coverage` or more. The
    probability is slightly lower if the labels were also used to choose the checkpoint, because
    that makes their errors small.
    """
    rank = math.ceil(round((len(errors) + 1) * coverage, 9))
    if rank > len(errors):
        return None
    return Interval(float(np.sort(errors)[rank - 1]), len(errors), coverage)
