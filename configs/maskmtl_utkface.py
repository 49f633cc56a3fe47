"""Age, gender and race of UTKFace chips, with MaskMTL's network and recipe, layer for layer.

    python train.py --config configs/maskmtl_utkface.py
    python evaluate.py --workdir runs/maskmtl_utkface

48 x 48 gray; the hierarchical network with 13.2 M parameters (the age head follows the third
convolution, gender the fourth, race the fifth); Adam, batches of 32, 40 epochs, no augmentation;
the squared error of the age in years, not weighted. Unlike the original's, the split never
divides a photograph.

The faces are bare. The original reports no result for bare faces; for masked faces, on a split with
copies of faces on both sides, it reports gender 0.880, race 0.743, age 12.6.

Measured here on the 1,368 chips of split val, the mean of the last five epochs, seeds 0 to 3,
with the same recipe in Keras on the same faces in parentheses (two CPU cores, `python -m
benchmarks.maskmtl_keras faces --seeds 0 1 2 3`): gender 0.797 ± 0.012 (0.783 ± 0.023), race 0.646
± 0.013 (0.653 ± 0.045; only seeds 0 to 2: 0.646 and 0.675), age 11.6 ± 0.7 years (12.0 ± 1.9).
Single epochs of both vary widely: age between 8.4 and 15.1 in the last ten of seed 0. On the
1,369 chips of split test, the last weights of seed 0 have gender 0.777, race 0.660, age 8.4
(`evaluate.py --step latest`). The errors are largest for old people (80 to 90: 26 years), for the
gender of women (0.687) and for the race of Asian faces (0.208).

The labels are noisy impressions of an annotator and a program, not statements of the people
themselves. Do not use them for decisions about a person.
"""

from ml_collections import ConfigDict

from mtl_jax.config.defaults import get_chips, make_tiny

VARIANTS = ("", "tiny")


def get_config(variant: str = "") -> ConfigDict:
    config = get_chips(side=48, channels=1)
    config.attributes.age = dict(  # the output is the age in years
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
