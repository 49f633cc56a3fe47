"""Yaw, pitch and roll on BIWI (Kinect head pose database): MTL_MRCNN's second result, with test
people that are not in the training split.

    python train.py --config configs/mtl_synthetic.py:quickstart --workdir runs/quickstart
    python train.py --config configs/biwi_pose.py --config.init.checkpoint=runs/quickstart
    python evaluate.py --workdir runs/biwi_pose

MTL_MRCNN reports mean errors of 6.2 degrees for yaw and 6.6 for pitch, on other frames of the
people in the training set. Not measured: the data set is not part of this repository. 2,000 steps
are three epochs of about 10,000 frames.
"""

from ml_collections import ConfigDict

from mtl_jax.config.defaults import make_tiny
from mtl_jax.config.overrides import load_config_file

VARIANTS = ("", "tiny")


def get_config(variant: str = "") -> ConfigDict:
    config = load_config_file("prima_pose")
    config.attributes.head.angles = ("yaw", "pitch", "roll")
    config.data.format = "biwi"
    config.data.resize.update(min_size=192, max_size=256, canvases=((192, 256),))
    config.stages = (dict(layers="all", steps=2000, learning_rate=0.0),)
    config.train.update(eval_every=500, checkpoint_every=250)
    return make_tiny(config) if variant == "tiny" else config
