"""Faces for tests of landmark formats: declared attributes, iBUG's 68 points, and a small data set
in BIWI's format.
"""

from pathlib import Path

import cv2
import numpy as np

from mtl_jax.attributes import declarations as attribute_kinds
from mtl_jax.attributes.vocabulary import LANDMARK_FLIP, LANDMARKS
from mtl_jax.data.readers.format import Labels
from mtl_jax.data.synthetic.surfaces import rotation

DECLARED = attribute_kinds.from_config(
    {
        "head": dict(kind="pose"),
        "face": dict(kind="landmarks", points=LANDMARKS, flip=LANDMARK_FLIP),
        "gender": dict(kind="categorical", classes=("male", "female")),
    }
)
LABELS = Labels(DECLARED)
SKIP = Labels(DECLARED, on_error="skip")
AT = {name: i for i, name in enumerate(LANDMARKS)}
HIDDEN = [None, None, 1]


def ibug(center=(50.0, 40.0), width=40.0) -> np.ndarray:
    """Return the 68 points `[68, 2]` of a frontal face, `width` wide and about as high."""
    turn = np.linspace(np.pi, 0, 17)
    jaw = np.stack([0.5 * np.cos(turn), 0.6 * np.sin(turn) - 0.1], -1)
    brow = [(-0.4 + 0.075 * i, -0.45 - 0.025 * (2 - abs(i - 2))) for i in range(5)]
    bridge = [(0, -0.3 + 0.1 * i) for i in range(4)]
    nostrils = [(0.05 * (i - 2), 0.08) for i in range(5)]
    eye = [
        (-0.3, -0.3),
        (-0.25, -0.33),
        (-0.2, -0.33),
        (-0.15, -0.3),
        (-0.2, -0.27),
        (-0.25, -0.27),
    ]
    other = [(-eye[i][0], eye[i][1]) for i in (3, 2, 1, 0, 5, 4)]
    outer = [(0.2 * x, 0.25 + 0.08 * y) for x, y in _ring(12)]
    inner = [(0.15 * x, 0.25 + 0.04 * y) for x, y in _ring(8)]
    right = [(-x, y) for x, y in brow[::-1]]
    every = [*jaw, *brow, *right, *bridge, *nostrils, *eye, *other, *outer, *inner]
    return np.array(every) * width + center


def _ring(count: int) -> list[tuple[float, float]]:
    turn = np.pi + np.linspace(0, 2 * np.pi, count, endpoint=False)
    return [(float(np.cos(t)), float(np.sin(t))) for t in turn]


# BIWI's axes: x right, y down, z away; a drawn head's: x right, y up, z towards the camera
AXES = np.diag([1.0, -1.0, -1.0])
CALIBRATION = """517.679 0 320
0 517.679 240.5
0 0 1

0 0 0 0

0.999947 0.00432361 0.00929419
-0.00446314 0.999877 0.0150443
-0.009228 -0.015085 0.999844

-24.0198 5.8896 -13.2308

640 480
"""


def write_frame(folder: Path, number: int, turn: np.ndarray, center, suffix="png") -> Path:
    """Write a frame of BIWI with its pose and camera files, and return the path of the image."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rgb.cal").write_text(CALIBRATION)
    path = folder / f"frame_{number:05d}_rgb.{suffix}"
    image = np.full((480, 640, 3), 90, np.uint8)
    x, y, z = center
    middle = int(320 + 517 * x / z), int(240 + 517 * y / z)
    cv2.ellipse(image, middle, (int(46500 / z), int(62000 / z)), 0, 0, 360, (90, 120, 200), -1)
    cv2.imwrite(str(path), image)
    rows = "\n".join(" ".join(f"{value:.6g}" for value in row) for row in turn)
    text = f"{rows}\n\n{' '.join(f'{value:.6g}' for value in center)}\n"
    path.with_name(f"frame_{number:05d}_pose.txt").write_text(text)
    return path


def write_biwi(folder: Path, frames: int = 2) -> None:
    """Write BIWI's 24 folders with `frames` frames each."""
    rng = np.random.default_rng(0)
    for person in range(1, 25):
        for number in range(3, 3 + frames):
            turn = AXES @ rotation(*rng.uniform(-40, 40, 3)) @ AXES
            center = rng.uniform((-150, -100, 800), (150, 100, 1100))
            write_frame(folder / f"{person:02d}", number, turn, center)
