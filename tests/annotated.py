"""Functions for tests of annotation formats: write an image, open a source as a config does, and
check the faults of invalid annotations.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mistakes import check_faults

from mtl_jax.attributes.base import Attribute
from mtl_jax.data.readers.format import Labels
from mtl_jax.data.readers.formats import FORMATS
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


def faults(name: str, folder: Path, labels: Labels | None = None, **block) -> tuple[str, ...]:
    """Return the faults of the AnnotationErrors raised when annotations are opened."""
    with pytest.raises(AnnotationErrors) as caught:
        open_format(name, folder, labels, **block)
    assert not any("\n" in fault for fault in caught.value.faults)
    return caught.value.faults


def check_lines(lines: Sequence[str], place: Path, *expected: Sequence[object]) -> None:
    """Assert that there is one line for each of `expected`, in order, which starts with `place` and
    names the expected parts.
    """
    start = f"{place}: "
    assert all(line.startswith(start) for line in lines), lines
    check_faults([line.removeprefix(start) for line in lines], *expected)


def labels_of(instance: Instance, attributes: Sequence[Attribute]) -> dict[str, Any]:
    """Return an instance's labels by attribute, in the form of annotations."""
    return {
        a.name: a.annotate(*instance.attributes[a.name])
        for a in attributes
        if a.name in instance.attributes
    }


def mask_of(instance: Instance) -> np.ndarray:
    return to_mask(instance.segmentation, HEIGHT, WIDTH)
