"""Which detection found which instance, on one picture."""

from typing import NamedTuple

import numpy as np

from mtl_jax.data.records import Record, overlaps


class Truth(NamedTuple):
    """What is annotated on a picture: M instances, in its own pixels."""

    boxes: np.ndarray  # [M, 4]
    classes: np.ndarray  # [M]
    crowd: np.ndarray  # [M] bool

    @classmethod
    def of(cls, record: Record) -> "Truth":
        things = record.instances
        return cls(
            np.array([thing.box for thing in things], float).reshape(-1, 4),
            np.array([thing.label for thing in things], int),
            np.array([thing.crowd for thing in things], bool),
        )


class Match(NamedTuple):
    """Who found whom. D detections, M instances."""

    gt_index: np.ndarray  # [D] the instance that the detection found, -1: none
    ignored: np.ndarray  # [D] bool: found none, but lies on a crowd of its class


def match(
    boxes: np.ndarray,
    scores: np.ndarray,
    classes: np.ndarray,
    truth: Truth,
    iou_threshold: float = 0.5,
) -> Match:
    """Give each instance to one detection of its class, as COCO does: the higher score chooses
    first, and the best IoU.

    Crowds are found by nobody; a detection that found none is ignored where that share of it lies
    on a crowd.
    """
    found = np.full(len(boxes), -1)
    overlap, share = overlaps(boxes, truth.boxes)
    same = np.asarray(classes)[:, None] == truth.classes[None]
    overlap = np.where(same & ~truth.crowd, overlap, -1.0)
    for i in np.argsort(-np.asarray(scores), kind="stable"):
        if overlap.shape[1] and overlap[i].max() >= iou_threshold:
            found[i] = overlap[i].argmax()
            overlap[:, found[i]] = -1.0
    ignored = (found < 0) & (same & truth.crowd & (share >= iou_threshold)).any(1)
    return Match(found, ignored)
