"""How far a number may be from the prediction: split conformal intervals.

Source: Lei, G'Sell, Rinaldo, Tibshirani, Wasserman, Distribution-Free Predictive Inference for
Regression, 2018, algorithm 2.
"""

import math
from typing import NamedTuple

import numpy as np


class Interval(NamedTuple):
    """The prediction, `half_width` less or more."""

    half_width: float
    labels: int  # how many it was calibrated on
    coverage: float  # the share of labels that shall lie in it

    def around(self, value: float, low: float, high: float) -> list[float]:
        """Give its ends about a prediction, within the attribute's range."""
        return [
            round(max(value - self.half_width, low), 4),
            round(min(value + self.half_width, high), 4),
        ]


def calibrate(errors: np.ndarray, coverage: float) -> Interval | None:
    """Give the interval of a share `coverage` of labels; None where `errors` `[N]` are too few.

    These are of labels that were not trained on. A label that is drawn as they were, its n + 1st,
    is as likely to have any rank among them all, so that the error of rank ceil((n + 1) coverage)
    is not exceeded with that probability or a higher one, whatever the model. Where these labels
    also chose the checkpoint, it is a little less: theirs are the errors that were made small.
    """
    rank = math.ceil(round((len(errors) + 1) * coverage, 9))
    if rank > len(errors):
        return None
    return Interval(float(np.sort(errors)[rank - 1]), len(errors), coverage)
