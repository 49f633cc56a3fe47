"""Matching of detections with instances in one image."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from mtl_jax.data.records import Instance, Record, overlaps

EVERY = -1  # the class of a crowd of all classes


def ignored_crowds(record: Record, classes: Iterable[int]) -> Iterator[Instance]:
    """Yield a crowd of each class for each ignored box of a record, as objects of any class may be
    there that are not instances.
    """
    for label in classes:
        yield from (Instance(box, label, crowd=True) for box in record.ignored)


class Truth(NamedTuple):
    """The ground truth of an image, in its original pixels: its instances, then its ignored boxes
    as crowds of class EVERY; M in all.
    """

    boxes: np.ndarray  # [M, 4]
    classes: np.ndarray  # [M]
    crowd: np.ndarray  # [M] bool

    @classmethod
    def of(cls, record: Record) -> "Truth":
        """Return the ground truth of a record."""
        instances = (*record.instances, *ignored_crowds(record, (EVERY,)))
        return cls(
            np.array([instance.box for instance in instances], float).reshape(-1, 4),
            np.array([instance.label for instance in instances], int),
            np.array([instance.crowd for instance in instances], bool),
        )


class Match(NamedTuple):
    """The matches of D detections with M instances."""

    gt_index: np.ndarray  # [D] index of the matched instance, -1: unmatched
    ignored: np.ndarray  # [D] bool: unmatched, but on a crowd of its class


def match(
    boxes: np.ndarray,
    scores: np.ndarray,
    classes: np.ndarray,
    truth: Truth,
    iou_threshold: float = 0.5,
) -> Match:
    """Match each instance with at most one detection of its class, as COCO does.

    Detections are matched by descending score, each with the free instance of the highest IoU.
    Crowds are not matched. An unmatched detection is ignored if at least `iou_threshold` of its
    area is on a crowd.
    """
    found = np.full(len(boxes), -1)
    overlap, share = overlaps(boxes, truth.boxes)
    same = (np.asarray(classes)[:, None] == truth.classes) | (truth.classes == EVERY)
    overlap = np.where(same & ~truth.crowd, overlap, -1.0)
    for i in np.argsort(-np.asarray(scores), kind="stable"):
        if overlap.shape[1] and overlap[i].max() >= iou_threshold:
            found[i] = overlap[i].argmax()
            overlap[:, found[i]] = -1.0
    ignored = (found < 0) & (same & truth.crowd & (share >= iou_threshold)).any(1)
    return Match(found, ignored)
