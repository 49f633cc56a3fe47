"""Age, gender and race of faces in masks, 96 x 96 in colour: a ResNet-18 for MaskMTL's trunk.

    python train.py --config configs/maskmtl_best.py
    python evaluate.py --workdir runs/maskmtl_best
    python evaluate.py --name bare "--config.data.sources[0].masks=0"
    python evaluate.py --name half "--config.data.sources[0].masks=0.5"

UTKFace's chips, and FairFace's on the training side, its ages as ranges, its races as UTKFace's. In
training a face wears another mask each time, three of four times; in the validation and the test
always the same one; with the last two commands the test's faces are bare, or half of them, and
errors are then given by masked. `--data FOLDER` draws masks too; give masks=0 where faces wear real
ones. The variant bare is without masks, and the same as configs/utkface_attributes.py.

Measured on the 1,026 chips of the test (one H200, seeds 0, 1 and 2, `--step latest`): gender
0.883 ± 0.006, race 0.806 ± 0.001, age 5.92 ± 0.02 years, 0.626 of them within 5; intervals of 90 %
hold 0.892 and are 30 years wide. Errs most for the old (above 80: 13 years), for children's gender
(0.761), and for the race of the few Black faces (0.419 of 39) and of Others (0.409).

What the labels are: impressions of annotators and of programs, not what people say of themselves,
and noisy. Do not decide anything about a person by them.
"""

from ml_collections import ConfigDict

from mtl_jax.config.defaults import get_colour_chips, make_tiny

VARIANTS = ("", "bare", "tiny")


def get_config(variant: str = "") -> ConfigDict:
    config = get_colour_chips(side=96)
    masks = 0.0 if variant == "bare" else 1.0
    config.data.sources = (
        dict(format="utkface", masks=masks, mask_splits=("val", "test", "external")),
        dict(format="fairface", split="train", attribute_preset="utkface"),
    )
    config.data.augment.mask = 0.75 * masks
    steps = 4000 if variant == "bare" else 3000  # 61 or 46 epochs of 8,363 chips
    config.stages = (dict(layers="all", steps=steps, learning_rate=0.0),)
    if variant == "tiny":
        config.model.backbone.width = 8
    return make_tiny(config) if variant == "tiny" else config
