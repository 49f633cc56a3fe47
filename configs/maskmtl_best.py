"""Age, gender and race of faces in masks, 64 x 64 in colour: a ResNet-18 for MaskMTL's trunk.

    python train.py --config configs/maskmtl_best.py
    python evaluate.py --workdir runs/maskmtl_best
    python evaluate.py --workdir runs/maskmtl_best "--config.data.sources[0].masks=0.5"

UTKFace's chips; in training a face wears another mask each time, three of four times, in the
validation and the test always the same one; with the last command half of the test's faces are
bare, and errors are given by masked. The variant bare is without masks. Heads read the mean
of the last map; age is learnt as a distribution; an average of the weights is what is kept.

Not measured yet to its end.
"""

from ml_collections import ConfigDict

from mtl_jax.defaults import get_colour_chips, make_tiny

VARIANTS = ("", "bare", "tiny")


def get_config(variant: str = "") -> ConfigDict:
    config = get_colour_chips(side=64)
    masks = 0.0 if variant == "bare" else 1.0
    config.data.sources = (
        dict(format="utkface", masks=masks, mask_splits=("val", "test", "external")),
    )
    config.data.augment.mask = 0.75 * masks
    config.stages = (dict(layers="all", steps=3000, learning_rate=0.0),)  # 40 epochs of 4,790 chips
    if variant == "tiny":
        config.model.backbone.width = 8
    return make_tiny(config) if variant == "tiny" else config
