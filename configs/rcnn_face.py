"""R-CNN_Face: classification of regions as face or background, to pretrain HyperFace's trunk.

    python train.py --config configs/rcnn_face.py
    python train.py --config configs/hyperface_aflw.py --config.init.checkpoint=runs/rcnn_face

Trains on drawn heads, which require no files. The variant aflw trains on AFLW; repository is the
network of the Keras implementation (batch norms, 43,604,226 parameters). Not measured: networks of
this size require a GPU.
"""

from ml_collections import ConfigDict

from mtl_jax.config.defaults import get_hyperface, make_tiny

VARIANTS = ("", "aflw", "repository", "tiny")


def get_config(variant: str = "") -> ConfigDict:
    config = get_hyperface(side=384)
    config.attributes = ConfigDict({})
    config.model.update(fused=False, fcs=(4096,), dropout=0.5)
    scenes = dict(format="synthetic", cache=True, size=(384, 384), head_heights=(0.15, 0.7))
    config.data.sources = (
        dict(scenes, name="train", split="train", length=4000, seed=0),
        dict(scenes, name="val", split="val", length=60, seed=1, texture_seed=1),
        dict(scenes, name="test", split="test", length=300, seed=2, texture_seed=2),
    )
    config.stages = (dict(layers="all", steps=20_000, learning_rate=0.0),)
    config.train.update(eval_every=5000, checkpoint_every=1000)
    config.eval.best_metric = "box/AP50"
    if variant == "aflw":
        config.data.sources = (dict(format="aflw"),)
    if variant == "repository":
        config.model.alexnet.variant = "repository"
        config.model.dropout = 0.0
    if variant == "tiny":
        config.model.update(fcs=(32,), head_features=16, input_size=67)
        config.model.alexnet.width = 12
        config.model.windows.min_side = 128.0
    return make_tiny(config) if variant == "tiny" else config
