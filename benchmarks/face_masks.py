"""Count the masks that a core draws on faces in a second.

    python -m benchmarks.face_masks

Faces are aligned chips of noise: the cost does not depend on what they show. Each kind of mask,
texture and fit comes as in training; decoding is not part of it. A figure is of processor time, the
best of the runs.
"""

import argparse
import time

import cv2
import numpy as np

from mtl_jax.data.face_masks.fit import chip_frame
from mtl_jax.data.face_masks.render import draw_wearing, put_on


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sides", nargs="+", type=int, default=(48, 96, 200), help="of the chips")
    parser.add_argument("--masks", type=int, default=300, help="of a run")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    for side in options.sides:
        seconds = [measure(side, options.masks) for _ in range(options.runs)]
        print(f"{side} x {side}: {options.masks / min(seconds):.0f} masks a second and core")


def measure(side: int, masks: int) -> float:
    """Give the processor time of so many masks."""
    rng = np.random.default_rng(0)
    chip = rng.integers(0, 256, (side, side, 3), np.uint8)
    start = time.process_time()
    for _ in range(masks):
        put_on(chip, chip_frame(side, side, rng), draw_wearing(rng))
    return time.process_time() - start


if __name__ == "__main__":
    main()
