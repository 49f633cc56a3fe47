"""Balloons in 52 photographs, annotated with VIA: boxes and masks of one class.

    python -m mtl_jax.visualize data --config configs/balloon.py --output look
    python train.py --config configs/balloon.py --config.init.checkpoint=RUN

RUN is any run or converted file to start from; without one the weights are random. Not measured
yet.
"""

from ml_collections import ConfigDict

from mtl_jax.defaults import get_small, make_tiny

VARIANTS = ("", "tiny")


def get_config(variant: str = "") -> ConfigDict:
    config = get_small(side=512)
    config.data.sources = (dict(format="via", path="balloon", categories=("balloon",)),)
    config.data.fractions = (0.7, 0.1, 0.2)
    config.data.augment.scale = (0.7, 1.4)
    config.data.mask_size = 112
    config.model.rpn.anchor_sizes = ((16.0,), (32.0,), (64.0,), (128.0,), (256.0,))
    config.stages = (dict(layers="all", steps=1000, learning_rate=0.0),)
    config.train.update(batch_size=4, eval_every=250, checkpoint_every=250)
    config.eval.best_metric = "mask/AP50"
    return make_tiny(config) if variant == "tiny" else config
