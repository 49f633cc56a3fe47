"""Age, gender and race of bare faces, 112 x 112 in colour, by a ResNet-34 on UTKFace's chips.

    python train.py --config configs/utkface_attributes.py
    python evaluate.py --workdir runs/utkface_attributes

As configs/maskmtl_best.py:bare, with a larger picture and a deeper trunk. The variant fairface adds
FairFace to the training side, its ages as ranges, its races as UTKFace's. What the labels are:
impressions of annotators and of programs, not what people say of themselves, and noisy. Do not
decide anything about a person by them.

Not measured yet.
"""

from ml_collections import ConfigDict

from mtl_jax.defaults import get_colour_chips, make_tiny

VARIANTS = ("", "fairface", "tiny")


def get_config(variant: str = "") -> ConfigDict:
    config = get_colour_chips(side=112)
    config.model.backbone.depth = 34
    config.data.sources = (dict(format="utkface"),)
    if variant == "fairface":
        more = dict(format="fairface", split="train", attribute_preset="utkface")
        config.data.sources += (more,)
    steps = 5200 if variant == "fairface" else 3000  # 40 epochs of 4,790 chips, or 8,363
    config.stages = (dict(layers="all", steps=steps, learning_rate=0.0),)
    if variant == "tiny":
        config.model.backbone.update(depth=18, width=8)
    return make_tiny(config) if variant == "tiny" else config
