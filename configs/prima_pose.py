"""Yaw and pitch on Prima (Pointing'04): MTL_MRCNN's first result, with test people that are not in
the training split.

    python train.py --config configs/mtl_synthetic.py:quickstart --workdir runs/quickstart
    python train.py --config configs/prima_pose.py --config.init.checkpoint=runs/quickstart
    python evaluate.py --workdir runs/prima_pose

Measured on two test people, 372 images (seed 0, eight people in the training split, 1,200 steps
from the quick start of commit 8195e70, two CPU cores shared with other work, 31 CPU minutes): yaw
8.5 and pitch 10.4 degrees (always predicting the median: 47.4 and 31.3), 1 false negative, box AP50
0.989, 62 false positives, mostly on the hair of one person; on the one person of split val, 5.0 and
10.1. The paper of MTL_MRCNN (IEEE Access 10, 2022, page 54703) reports 8.0 and 8.2. Regions and
masks were computed as in torchvision (--config.model.roi.aligned=False,
--config.model.mask_head.exact=False).
"""

from ml_collections import ConfigDict

from mtl_jax.config.defaults import get_small, make_tiny

VARIANTS = ("", "tiny")


def get_config(variant: str = "") -> ConfigDict:
    config = get_small(side=192)
    config.attributes = ConfigDict({"head": dict(kind="pose", angles=("yaw", "pitch"), weight=4.0)})
    config.model.mask_head.enabled = False  # Prima and BIWI have no masks
    config.model.attribute_head.update(features=128, dropout=0.3)
    config.model.roi.update(samples=16, positive_fraction=0.5)
    config.data.format = "prima"
    config.data.max_instances = 4
    config.data.resize.update(min_size=144, max_size=192, canvases=((144, 192),))
    config.data.augment.update(
        scale=(0.7, 1.4),
        brightness=0.7,
        contrast=0.7,
        contrast_strength=0.5,
        saturation=0.7,
        saturation_strength=1.0,
        hue=0.5,
        blur=0.2,
        noise=0.2,
    )
    config.stages = (dict(layers="all", steps=1200, learning_rate=0.0),)
    config.train.update(batch_size=16, eval_every=400, checkpoint_every=200)
    config.eval.update(batch_size=16, best_metric="head/yaw/mae")
    return make_tiny(config) if variant == "tiny" else config
