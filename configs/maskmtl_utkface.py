"""Age, gender and race of UTKFace's chips by MaskMTL's network and recipe, layer for layer.

    python train.py --config configs/maskmtl_utkface.py
    python evaluate.py --workdir runs/maskmtl_utkface

48 x 48 gray, the hierarchical network of 13.2 M parameters (age leaves after three convolutions,
gender after four, race after five), Adam, 32 chips a step, 40 epochs, no augmentation, the squared
error of the age in years, not weighted. The split, unlike the original's, parts no photograph.

The faces are bare. The original gives no number for that; of faces in masks, on a split that parts
them from their copies: gender 0.880, race 0.743, age 12.6.

Measured here on the 1,368 chips of the split val, the mean of the last five epochs, seeds 0 to 3,
beside the same recipe in Keras on the same faces (two CPU cores, `python -m
benchmarks.maskmtl_keras faces --seeds 0 1 2 3`): gender 0.797 ± 0.012 (Keras 0.783 ± 0.023), race
0.646 ± 0.013 (0.653 ± 0.045; of seeds 0 to 2 alone 0.646 and 0.675), age 11.6 ± 0.7 years (12.0 ±
1.9). Single epochs of either lie far apart: age between 8.4 and 15.1 in the last ten of seed 0. On
the 1,369 chips of the test the last weights of seed 0 give gender 0.777, race 0.660, age 8.4
(`evaluate.py --step latest`), and err most for the old (80 to 90: 26 years), for women's gender
(0.687) and for the race of Asian faces (0.208).

What the labels are: impressions of an annotator and of a program, not what people say of
themselves, and noisy. Do not decide anything about a person by them.
"""

from ml_collections import ConfigDict

from mtl_jax.config.defaults import get_chips, make_tiny

VARIANTS = ("", "tiny")


def get_config(variant: str = "") -> ConfigDict:
    config = get_chips(side=48, channels=1)
    config.attributes.age = dict(  # an output is the age itself
        kind="continuous", range=(0.0, 116.0), scale=1.0, centered=False, loss="l2"
    )
    config.attributes.gender.loss = "binary_cross_entropy"
    config.model.exits = (("age", 3), ("gender", 4), ("race", 5))
    config.data.update(format="utkface", fractions=(0.6, 0.2, 0.2))
    config.data.augment.flip = 0.0
    config.optimizer.update(
        epsilon=1e-7, weight_decay=0.0, clip_norm=0.0, schedule="constant", warmup_steps=0
    )
    config.stages = (dict(layers="all", steps=5120, learning_rate=0.0),)  # 40 epochs of 6,843 chips
    config.train.update(batch_size=32, eval_every=128, checkpoint_every=128)
    if variant == "tiny":
        config.model.convs.features = (16, 16, 24, 24, 24)
        config.model.head.features = (32, 32)
    return make_tiny(config) if variant == "tiny" else config
