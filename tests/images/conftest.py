"""A small image for all tests of the decoder and the resizer."""

import cv2
import numpy as np
import pytest

HEIGHT, WIDTH = 30, 40


@pytest.fixture
def image() -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(coarse, (WIDTH, HEIGHT))
