"""Age, gender and race of UTKFace chips: MTL_MRCNN's third result, with test people that are not in
the training split.

    python train.py --config configs/utkface_age.py
    python evaluate.py --workdir runs/utkface_age

The variant scenes composes several chips into one image, so that faces must be detected.

Measured on the 1,026 chips of split test, of 6,843 in total (seed 0; two CPU cores shared with
other work, 76 CPU minutes, the code of commit 0fa3cf3): age 6.22 years (always predicting the
median: 20.6), gender 0.852 (0.568), race 0.782 (0.538), no false negatives, box AP 0.997. The age
error was still decreasing: 7.28 and 6.53 on validation at steps 3000 and 4000. The paper of
MTL_MRCNN (IEEE Access 10, 2022, page 54703) reports 5.3, on another split. Regions and masks were
computed as in torchvision (--config.model.roi.aligned=False, --config.model.mask_head.exact=False).

The variant scenes, starting from the quick start's backbone, pyramid and box layers,

    python train.py --config configs/utkface_age.py:scenes --workdir runs/utkface_scenes \\
        --config.init.checkpoint=runs/quickstart "--config.init.exclude=('attribute_head',)"

on scenes of the same 1,026 faces (seed 0, 60 minutes on two busy cores, the code of commit
694bc33): box AP50 0.990, 2 false negatives, 80 false positives; age 10.01 years, gender 0.745,
race 0.598. 1,500 steps suffice for the detection of faces, but not for their attributes.
"""

from ml_collections import ConfigDict

from mtl_jax.attributes.vocabulary import GENDERS, RACES
from mtl_jax.config.defaults import get_small, make_tiny

VARIANTS = ("", "scenes", "tiny")


def get_config(variant: str = "") -> ConfigDict:
    config = get_small(side=128)
    config.attributes = ConfigDict(
        {
            "age": dict(kind="continuous", range=(0.0, 116.0), loss="distribution", weight=4.0),
            "gender": dict(kind="categorical", classes=GENDERS),
            "race": dict(kind="categorical", classes=RACES, weight=0.5),
        }
    )
    config.model.mask_head.enabled = False  # chips have no masks, and a box is the whole chip
    config.model.attribute_head.update(convs=3, channels=128, features=256, dropout=0.3)
    config.model.roi.update(samples=8, positive_fraction=0.5)
    config.data.update(format="utkface", max_instances=4)
    config.data.augment.update(
        scale=(0.85, 1.25), brightness=0.5, contrast=0.5, blur=0.1, noise=0.1
    )
    config.stages = (dict(layers="all", steps=5000, learning_rate=0.0),)
    config.train.update(batch_size=16, eval_every=1000, checkpoint_every=500)
    config.eval.update(batch_size=16, best_metric="age/mae")
    config.eval.update(
        groups=(("age", 10.0), ("gender", 0.0), ("race", 0.0)),
        limits=(("age", 5.0),),
        coverage=0.9,
    )
    if variant == "scenes":
        config.data.sources = (
            dict(format="utkface", scene=dict(size=(160, 160), sides=(48, 112))),
        )
        config.data.update(format="", max_instances=8)
        config.data.resize.update(min_size=160, max_size=160, canvases=((160, 160),))
        config.stages = (dict(layers="all", steps=1500, learning_rate=0.0),)
    return make_tiny(config) if variant == "tiny" else config
