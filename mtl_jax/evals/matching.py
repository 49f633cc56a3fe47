"""Which detection found which instance, on one picture."""

from typing import NamedTuple

import numpy as np

from mtl_jax.data.records import Record


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


def overlaps(boxes: np.ndarray, gt_boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give the IoU `[D, M]` and the share of each box that lies in each instance's box `[D, M]`; 0
    for empty boxes.
    """
    boxes = np.reshape(boxes, (-1, 4)).astype(np.float64)[:, None]
    others = np.reshape(gt_boxes, (-1, 4)).astype(np.float64)[None]
    sides = np.minimum(boxes[..., 2:], others[..., 2:]) - np.maximum(
        boxes[..., :2], others[..., :2]
    )
    common = np.clip(sides, 0, None).prod(-1)
    area = np.clip(boxes[..., 2:] - boxes[..., :2], 0, None).prod(-1)
    union = area + np.clip(others[..., 2:] - others[..., :2], 0, None).prod(-1) - common
    iou = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    share = np.divide(common, area, out=np.zeros_like(common), where=area > 0)
    return iou, share
