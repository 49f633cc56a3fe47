"""A run without a network, which detects the bright rectangle of a black image exactly."""

import numpy as np

from mtl_jax.attributes.declarations import from_config
from mtl_jax.data.records import Category
from mtl_jax.images.resize import ResizeOptions
from mtl_jax.types import Detections

SLOTS = 3


class FakeRun:
    """Detects the box of the pixels brighter than 128 in each row, and records the batches."""

    categories = (Category(11, "light"), Category(12, "dark"))
    attributes = from_config({"eye": {"kind": "landmarks", "points": ("a",)}})

    def __init__(self, batch_size=4, channels=3, resize=None, score=0.8):
        self.batch_size = batch_size
        self.channels = channels
        self.score = score
        self.resize = resize or ResizeOptions("square", 64, 128, ((128, 128), (64, 128)))
        self.batches = []

    propose = None  # the model requires no proposals
    levels = (0, 65535)
    version = ""
    exact_masks = False

    def class_of(self, image):
        return 1

    def predict(self, batch):
        self.batches.append(batch)
        rows = len(batch.images)
        boxes = np.full((rows, SLOTS, 4), np.nan, np.float32)
        valid = np.zeros((rows, SLOTS), bool)
        classes = np.full((rows, SLOTS), 999)
        eyes = np.full((rows, SLOTS, 3), np.nan, np.float32)
        for row, image in enumerate(batch.images):
            lines = (image > 128).any(-1)
            if not lines.any():
                continue
            y, x = np.flatnonzero(lines.any(1)), np.flatnonzero(lines.any(0))
            boxes[row, 1] = x[0], y[0], x[-1] + 1, y[-1] + 1
            eyes[row, 1] = (x[0] + x[-1] + 1) / 2, (y[0] + y[-1] + 1) / 2, 0.9
            valid[row, 1] = True
            classes[row, 1] = self.class_of(image)
        return Detections(
            boxes=boxes,
            scores=np.where(valid, self.score, np.nan),
            classes=classes,
            valid=valid,
            masks=np.ones((rows, SLOTS, 28, 28), np.float32),
            attributes={"eye": eyes},
        )


def picture(height, width, box, channels=3):
    image = np.zeros((height, width, channels), np.uint8)
    x1, y1, x2, y2 = box
    image[y1:y2, x1:x2] = 255
    return image
