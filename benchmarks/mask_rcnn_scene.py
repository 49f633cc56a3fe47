"""Images and objects for both halves of `benchmarks.mask_rcnn`."""

import argparse
from typing import NamedTuple

import numpy as np

CLASSES = 91


class Scene(NamedTuple):
    """Images and their objects, for both libraries. Coordinates are in pixels."""

    images: np.ndarray  # uint8 [B, H, W, 3]
    boxes: np.ndarray  # float32 [B, M, 4]: x1, y1, x2, y2
    classes: np.ndarray  # int64 [B, M]


def draw_scene(options: argparse.Namespace, height: int, width: int, batch: int) -> Scene:
    """Draw images of smooth noise, with boxes of a tenth to a half of their sides."""
    rng = np.random.default_rng(0)
    shape = (batch, options.objects, 2)
    coarse = rng.integers(0, 256, (batch, height // 16 + 1, width // 16 + 1, 3))
    images = coarse.repeat(16, 1).repeat(16, 2)[:, :height, :width]
    corners = rng.uniform(0, 1 / 2, shape)
    boxes = np.concatenate([corners, corners + rng.uniform(0.1, 0.5, shape)], -1)
    boxes *= [width, height, width, height]
    classes = rng.integers(1, 1 + options.alive, shape[:2])
    return Scene(images.astype(np.uint8), boxes.astype(np.float32), classes)


def ellipse(boxes: np.ndarray, frames: np.ndarray, side: int) -> np.ndarray:
    """Return the mask of the ellipse in each box on S x S cells of its frame: bool [..., S, S]."""
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2
    half = (boxes[..., 2:] - boxes[..., :2]) / 2
    step = (np.arange(side) + 0.5) / side
    size = frames[..., 2:] - frames[..., :2]
    at = frames[..., None, :2] + step[:, None] * size[..., None, :]
    squared = ((at - centre[..., None, :]) / half[..., None, :]) ** 2
    return squared[..., :, None, 1] + squared[..., None, :, 0] <= 1
