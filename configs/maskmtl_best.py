"""Age, gender and race of masked faces, 96 x 96 in colour: MaskMTL with a ResNet-18 as its trunk.

    python train.py --config configs/maskmtl_best.py
    python evaluate.py --workdir runs/maskmtl_best
    python evaluate.py --name bare "--config.data.sources[0].masks=0"
    python evaluate.py --name half "--config.data.sources[0].masks=0.5"

The training data are face chips of UTKFace and FairFace; validation and test use UTKFace only.
Ages of FairFace are ranges, and its races are converted to UTKFace's. In training, three of four
faces wear a drawn mask, a different one in each epoch; in validation and test all faces wear
masks, always the same ones. The third command evaluates bare faces. The fourth evaluates half of
the faces masked, with metrics by group `masked`. `--data FOLDER` also draws masks; pass masks=0
if the faces wear real masks. The variant bare uses no masks; it is the same as
configs/utkface_attributes.py.

Measured on the 1,026 chips of split test (one H200, seeds 0, 1 and 2, `--step latest`): gender
0.883 ± 0.006, race 0.806 ± 0.001, age 5.92 ± 0.02 years, 0.626 of them within 5; the coverage of
90 % intervals is 0.892, their width 30 years. The errors are largest for old people (above 80: 13
years), for the gender of children (0.761), and for the race of the few Black faces (0.419 of 39)
and of Others (0.409).

The labels are noisy impressions of annotators and programs, not statements of the people
themselves. Do not use them for decisions about a person.
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
