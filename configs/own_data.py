"""Mask R-CNN on your own annotated images: change the three lines of `source` below.

    mtl-jax data new-config mine
    mtl-jax visualize data --config configs/own_data.py --output look
    mtl-jax train --config configs/own_data.py
    mtl-jax evaluate --workdir runs/own_data
    mtl-jax predict --workdir runs/own_data --input photo.jpg --output out

The first command copies this file. The second shows the images, and every fault in their
annotations, on a page for a browser.

Without a variant, this is torchvision's Mask R-CNN R50-FPN on images of up to 1333 pixels, which
requires a GPU. Training starts from its public weights, which are downloaded once; docs/weights.md
lists others. Variants:

    small  half-width ResNet-18 on 256 x 256 pixels, trained from random weights on two CPU cores
    tiny   four steps of it, to see that everything works
"""

from ml_collections import ConfigDict

from mtl_jax.config.defaults import get_default, get_small, make_tiny

VARIANTS = ("", "small", "tiny")


def get_config(variant: str = "") -> ConfigDict:
    if variant:
        config = get_small(side=256)
    else:
        config = get_default()
        config.init.checkpoint = "maskrcnn_resnet50_fpn"
        # As these weights were trained.
        config.model.backbone.norm_eps = 0.0
        config.model.roi.aligned = False
        config.model.mask_head.exact = False
        config.optimizer.update(schedule="cosine", warmup_steps=100)
        config.train.batch_size = 2

    source = dict(
        format="coco",  # or via, labelme, voc, masks; docs/data.md describes all formats
        path="own_data",  # the folder of the annotations, below MTL_JAX_DATA or the current folder
        categories=(),  # the classes to keep, () keeps all; for via: the name of its only class
    )
    # The annotations are the only .json file of the folder (labelme and voc: a file beside each
    # image), and the images are in its subfolder images. For other names, and for data with one
    # file for each split, set annotations="train.json", images="jpegs" and split="train", and add
    # further sources to this tuple.
    config.data.sources = (source,)
    config.data.fractions = (0.7, 0.15, 0.15)  # of training, validation and test images
    config.data.augment.scale = (0.7, 1.4)  # random zoom; mirroring is config.data.augment.flip

    # Attributes of each object are read from keys of the same names in its annotation. An object
    # without the key has no label. docs/attributes.md describes all kinds, units and other keys.
    # config.attributes = {
    #     "age": dict(kind="continuous", range=(0, 116)),
    #     "colour": dict(kind="categorical", classes=("red", "green", "blue")),
    #     "ripeness": dict(kind="ordinal", classes=("none", "some", "full")),
    #     "head": dict(kind="pose", angles=("yaw", "pitch")),
    #     "eyes": dict(kind="landmarks", points=("left", "right"), flip=(("left", "right"),)),
    # }

    # 2e3 steps of 2 images are about ten epochs of 400 images. 0.0: config.optimizer.learning_rate.
    rate = 0.0 if variant else 2.5e-3
    config.stages = (dict(layers="all", steps=2000, learning_rate=rate),)
    config.train.eval_every = 500
    config.eval.best_metric = "mask/AP50"  # box/AP50 if the annotations have no masks
    return make_tiny(config) if variant == "tiny" else config
