"""Write the README's image: detections of a run on drawn scenes that it was not trained on.

python docs/make_overlays.py runs/quickstart docs/synthetic.jpg
"""

import sys

import cv2
import numpy as np

from mtl_jax import Predictor, draw
from mtl_jax.data.synthetic.head_scenes import SyntheticSource

ROWS, COLUMNS, SIDE = 2, 3, 400


def main(run: str, output: str) -> None:
    scenes = SyntheticSource(
        ROWS * COLUMNS,
        seed=77,
        size=(SIDE, SIDE),
        heads=(1, 2),
        head_heights=(0.45, 0.8),
        yaw=45.0,
        pitch=25.0,
        roll=20.0,
        texture_seed=77,
    )
    results = Predictor.from_checkpoint(run)([scenes[i].image for i in range(len(scenes))])
    tiles = np.stack([draw(result.image, result) for result in results])
    grid = tiles.reshape(ROWS, COLUMNS, SIDE, SIDE, 3).transpose(0, 2, 1, 3, 4)
    image = grid.reshape(ROWS * SIDE, COLUMNS * SIDE, 3)
    cv2.imwrite(output, image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])


if __name__ == "__main__":
    main(*sys.argv[1:])
