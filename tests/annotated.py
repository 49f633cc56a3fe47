"""What the tests of annotation formats share: a picture, and how a source is opened as a config
opens it.
"""

from pathlib import Path

import cv2
import numpy as np
import pytest

from mtl_jax.data.formats import FORMATS, Labels
from mtl_jax.data.records import Instance
from mtl_jax.data.segmentation import to_mask
from mtl_jax.errors import AnnotationErrors

HEIGHT, WIDTH = 80, 100


def write_picture(path: Path, height: int = HEIGHT, width: int = WIDTH) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((height, width, 3), 90, np.uint8))


def open_format(name: str, folder: Path, labels: Labels | None = None, **block):
    kind = FORMATS[name]
    assert set(block) <= set(kind.options) | {"path"}
    return kind.open(folder, {**kind.options, **block}, labels or Labels())


def faults(name: str, folder: Path, **block) -> tuple[str, ...]:
    """Give the lines that opening annotations is refused with."""
    with pytest.raises(AnnotationErrors) as caught:
        open_format(name, folder, **block)
    return caught.value.faults


def mask_of(instance: Instance) -> np.ndarray:
    return to_mask(instance.segmentation, HEIGHT, WIDTH)
