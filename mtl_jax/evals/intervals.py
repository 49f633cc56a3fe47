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
    return Interval(float(np.sort(errors)[rank - 1]), len(errors))
