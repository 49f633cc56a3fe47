"""Age, gender and race of bare faces: a ResNet-18 on UTKFace chips, 96 x 96 in colour.

    python train.py --config configs/utkface_attributes.py
    python evaluate.py --workdir runs/utkface_attributes

The training split also has the face chips of FairFace, with ages as ranges and races converted to
UTKFace's; the variant utkface omits them. No chip of FairFace is also in UTKFace. The labels are
noisy impressions of annotators and programs, not statements of the people themselves. Do not use
them for decisions about a person.

Measured on the 1,026 chips of split test (one H200, seeds 0, 1 and 2, `--step latest`): gender
0.890 ± 0.001, race 0.827 ± 0.001, age 4.78 ± 0.12 years, 0.681 of them within 5; the coverage of
90 % intervals is 0.893, their width 23 years. The goal was 0.89, 0.84 and 5.3: race is 0.013
below it. The errors are largest for old people (above 80: 9 years), for the gender of children
(0.750), and for the race of the few Black faces (0.632 of 39) and of Others (0.497). The variant
utkface is not measured.
"""

from ml_collections import ConfigDict

from mtl_jax.config.defaults import get_colour_chips, make_tiny

VARIANTS = ("", "utkface", "tiny")


def get_config(variant: str = "") -> ConfigDict:
    config = get_colour_chips(side=96)
    config.data.sources = (dict(format="utkface"),)
    if variant != "utkface":
        more = dict(format="fairface", split="train", attribute_preset="utkface")
        config.data.sources += (more,)
    steps = 3000 if variant == "utkface" else 4000  # 80 epochs of 4,790 chips, or 61 of 8,363
    config.stages = (dict(layers="all", steps=steps, learning_rate=0.0),)
    if variant == "tiny":
        config.model.backbone.width = 8
    return make_tiny(config) if variant == "tiny" else config
