"""Yaw, pitch and roll of BIWI's heads (Kinect head pose database): MTL_MRCNN's second result, on
people unseen.

    python train.py --config configs/mtl_synthetic.py:quickstart --workdir runs/quickstart
    python train.py --config configs/biwi_pose.py --config.init.checkpoint=runs/quickstart
    python evaluate.py --workdir runs/biwi_pose

MTL_MRCNN reports mean errors of 6.2 degrees of yaw and 6.6 of pitch, on other frames of the people
that it was trained on. Not measured: the data set is not part of this repository. The 2,000 steps
show each of some 10,000 frames three times.
"""

from ml_collections import ConfigDict

from mtl_jax.defaults import get_small, make_tiny

VARIANTS = ("", "tiny")


def get_config(variant: str = "") -> ConfigDict:
    config = get_small(side=256)
    config.attributes = ConfigDict(
        {"head": dict(kind="pose", angles=("yaw", "pitch", "roll"), weight=4.0)}
    )
    config.model.mask_head.enabled = False  # BIWI's heads come without masks
    config.model.attribute_head.update(features=128, dropout=0.3)
    config.model.roi.update(samples=16, positive_fraction=0.5)
    config.data.format = "biwi"
    config.data.max_instances = 4
    config.data.resize.update(min_size=192, max_size=256, canvases=((192, 256),))
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
    config.stages = (dict(layers="all", steps=2000, learning_rate=0.0),)
    config.train.update(batch_size=16, eval_every=500, checkpoint_every=250)
    config.eval.update(batch_size=16, best_metric="head/yaw/mae")
    return make_tiny(config) if variant == "tiny" else config
