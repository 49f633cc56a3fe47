"""Drawn scenes of heads as arrays, and training batches for HyperFace's face rectangle."""

from functools import cache
from typing import NamedTuple

import numpy as np

from mtl_jax.attributes.declarations import from_config
from mtl_jax.data.synthetic.head_scenes import ATTRIBUTES, SyntheticSource
from mtl_jax.types import Batch, GroundTruth

SIDE = 192  # pixels; each scene is one region


class Scenes(NamedTuple):
    """Scenes of at most 3 heads each; a landmark is x, y, visible."""

    boxes: np.ndarray  # [B, 3, 4]
    points: np.ndarray  # [B, 3, 21, 3]
    valid: np.ndarray  # [B, 3]

    def heads(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the boxes `[R, 4]` and landmarks `[R, 21, 3]` of all heads."""
        return self.boxes[self.valid], self.points[self.valid]


@cache
def drawn_scenes(length: int, seed: int) -> Scenes:
    """Draw scenes with the options of configs/hyperface_synthetic.py."""
    turns = dict(yaw=60.0, pitch=40.0, roll=30.0)
    source = SyntheticSource(
        length,
        seed,
        (SIDE, SIDE),
        heads=(1, 3),
        head_heights=(0.3, 0.7),
        min_visible=0.7,
        texture_seed=seed,
        attributes=from_config(ATTRIBUTES),
        **turns,
    )
    shapes = ((length, 3, 4), (length, 3, 21, 3))
    scenes = Scenes(*(np.zeros(s, np.float32) for s in shapes), np.zeros((length, 3), bool))
    for i in range(length):
        for j, head in enumerate(source[i].instances):
            scenes.boxes[i, j], scenes.valid[i, j] = head.box, True
            scenes.points[i, j] = head.attributes["face"][0].reshape(21, 3)
    return scenes


def batch_of(boxes: np.ndarray, **changes: np.ndarray) -> Batch:
    """Return a batch of regions with one face each; only the boxes `[R, 4]` are annotated."""
    rows = len(boxes)
    yes = np.ones(rows, bool)
    truth = GroundTruth(
        boxes=boxes[:, None].astype(np.float32),
        classes=np.ones((rows, 1), np.int32),
        valid=yes[:, None],
        masks=np.zeros((rows, 1, 1, 1), np.uint8),
        mask_valid=~yes[:, None],
        ignored=np.zeros((rows, 0, 4), np.float32),
        attributes={},
    )
    images = np.zeros((rows, 1, 1, 3), np.uint8)
    batch = Batch(images, np.full((rows, 2), SIDE), yes, yes, np.arange(rows), truth)
    return batch._replace(**changes)
