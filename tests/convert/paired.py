"""Pairs of equal detections of two libraries."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from oracles import iou

from mtl_jax.results import Result

OVERLAP, LEAST_SCORE = 0.5, 0.05  # larger overlaps are suppressed, lower scores discarded
MOST = 100  # detections per image


def pair(result: Result, out: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the detections that both libraries have, in torchvision's order.

    A detection that only one library has is accepted for three reasons: its overlap with another
    detection is almost equal to the limit of the suppression; it is suppressed by a detection that
    only the other library has, due to two almost equal scores; or its score is almost equal to the
    lowest score of the other library. Fails otherwise.
    """
    boxes, classes = (result.boxes, out["boxes"]), (result.classes, out["labels"])
    same = classes[0][:, None] == classes[1]
    apart = np.abs(boxes[0][:, None] - boxes[1]).max(-1)
    other, own = np.nonzero((same & (apart <= 0.02)).T)
    assert len(set(own)) == len(set(other)) == len(own)
    overlaps = np.where(same, iou(*boxes), 0)
    ours = Side(result.scores, np.setdiff1d(np.arange(len(same)), own))
    theirs = Side(out["scores"], np.setdiff1d(np.arange(same.shape[1]), other))
    assert ours.excused(theirs, overlaps).all()
    assert theirs.excused(ours, overlaps.T).all()
    return own, other


class Side(NamedTuple):
    """One library's detections."""

    scores: np.ndarray  # [D]
    alone: np.ndarray  # indices of detections that the other library does not have

    def excused(self, other, overlaps):
        """Return whether each of `alone` is accepted; `overlaps` `[D, other's D]` are per class."""
        scores, overlaps = self.scores[self.alone], overlaps[self.alone]
        contested = (np.abs(overlaps - OVERLAP) <= 1e-3).any(1)
        outscored = other.scores[other.alone] >= scores[:, None] - 1e-4
        suppressed = ((overlaps[:, other.alone] > OVERLAP) & outscored).any(1)
        least = other.scores.min() if len(other.scores) == MOST else LEAST_SCORE
        return contested | suppressed | (scores <= least + 1e-4)
