"""Measure how many masks per second one core draws on faces.

    python -m benchmarks.face_masks

Faces are aligned face chips of noise, since the time does not depend on their content. Kinds of
masks, textures and fits are drawn as in training; decoding is not included. Rates are those of the
best run, in processor time.
"""

import argparse
import time

import cv2
import numpy as np

from mtl_jax.data.face_masks.fit import chip_frame
from mtl_jax.data.face_masks.render import draw_wearing, put_on


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sides", nargs="+", type=int, default=(48, 96, 200), help="in pixels")
    parser.add_argument("--masks", type=int, default=300, help="per run")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    for side in options.sides:
        seconds = [measure(side, options.masks) for _ in range(options.runs)]
        print(f"{side} x {side}: {options.masks / min(seconds):.0f} masks per second and core")


def measure(side: int, masks: int) -> float:
    """Return the processor time of drawing `masks` masks, in seconds."""
    rng = np.random.default_rng(0)
    chip = rng.integers(0, 256, (side, side, 3), np.uint8)
    start = time.process_time()
    for _ in range(masks):
        put_on(chip, chip_frame(side, side, rng), draw_wearing(rng))
    return time.process_time() - start


if __name__ == "__main__":
    main()
