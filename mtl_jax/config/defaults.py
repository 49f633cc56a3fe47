"""Default configs: every field with its default, for config files and overrides to change.

The defaults are defined by the option dataclasses in `config/options`. This module converts them to
the fields of a ConfigDict, and `resolve.py` converts the fields back to options.
"""

from dataclasses import asdict
from typing import Any

from ml_collections import ConfigDict

from mtl_jax.attributes.vocabulary import GENDERS, LANDMARK_FLIP, LANDMARKS, RACES
from mtl_jax.config.options.data import DataOptions, SourceOptions
from mtl_jax.config.options.evaluation import EvalOptions
from mtl_jax.config.options.hyperface import HyperFaceOptions
from mtl_jax.config.options.mask_mtl import MaskMTLOptions
from mtl_jax.config.options.mask_rcnn import MaskRCNNOptions
from mtl_jax.config.options.training import InitOptions, LoopOptions, OptimizerOptions
from mtl_jax.config.renamed import add_old_names
from mtl_jax.errors import UserError, suggest

# The options of config.model by config.family; `runs/setup.py` builds the models.
FAMILIES: dict[str, type[Any]] = {
    "mask_rcnn": MaskRCNNOptions,
    "mask_mtl": MaskMTLOptions,
    "hyperface": HyperFaceOptions,
}


def get_default(family: str = "mask_rcnn") -> ConfigDict:
    """Return the default config of a model family, without data.

    The defaults are torchvision's Mask R-CNN R50-FPN with exact regions and masks for mask_rcnn,
    the published network with hard sharing for mask_mtl, and the paper's network on AlexNet for
    hyperface. A config file can set only the fields that exist here; it can add attributes and
    attribute keys. Raises UserError if the family is unknown.
    """
    config = get_stored_default(family)
    if family == "mask_rcnn":
        # torchvision shifts regions by half a cell, and cuts the boxes of masks to whole pixels.
        config.model.roi.aligned = True
        config.model.mask_head.exact = True
    return config


def get_stored_default(family: str) -> ConfigDict:
    """Return the defaults of fields that are missing from the config of a stored run.

    They are those of the option dataclasses and never change; for mask_rcnn they are torchvision's
    Mask R-CNN R50-FPN. Raises UserError if the family is unknown.
    """
    if family not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise UserError(
            f"config.family is {family!r}; it must be one of {known}{suggest(family, FAMILIES)}"
        )
    config = ConfigDict(
        {
            "family": family,
            "model": asdict(FAMILIES[family]()),
            "attributes": {},
            # None accepts any type: blocks by name or a tuple of blocks (config/blocks.py)
            "data": {**asdict(SourceOptions()), **asdict(DataOptions()), "sources": None},
            "init": asdict(InitOptions()),
            "optimizer": asdict(OptimizerOptions()),
            "stages": None,
            "train": asdict(LoopOptions()),
            "eval": asdict(EvalOptions()),
        }
    )
    add_old_names(config)
    if family == "hyperface":
        config.data.regions.proposals = "jitter"
    if family == "mask_mtl":  # the published input size: the heads' weights depend on it
        config.data.resize.update(mode="square", min_size=48, max_size=48, canvases=((48, 48),))
    config.lock()
    config.attributes.unlock()
    config.data.attribute_keys.unlock()
    return config


def get_small(side: int) -> ConfigDict:
    """Return a Mask R-CNN config for `side` x `side` inputs, trained on two CPU cores in hours.

    ResNet-18 of half width with batch norm and random weights, narrow heads, one anchor per cell;
    AdamW with a cosine schedule.
    """
    config = get_default()
    model = config.model
    model.backbone.update(depth=18, width=32, norm="batch")
    model.fpn.channels = 64
    model.rpn.update(
        anchor_sizes=((16.0,), (32.0,), (64.0,), (128.0,), (256.0,)),
        anchor_ratios=(1.0,),
        samples=128,
        pre_nms_train=200,
        pre_nms=100,
        post_nms_train=100,
        post_nms=50,
    )
    model.roi.samples = 32
    model.box_head.fc_features = 256
    model.mask_head.update(convs=2, channels=64)
    model.attribute_head.update(channels=96, features=256, norm="group")
    model.detection.update(max_detections=20, max_candidates=100)
    config.data.resize.update(mode="square", min_size=side, max_size=side, canvases=((side, side),))
    config.data.update(max_instances=12, mask_size=56)
    config.optimizer.update(
        name="adamw",
        learning_rate=1e-3,
        weight_decay=0.01,
        clip_norm=10.0,
        schedule="cosine",
        warmup_steps=100,
    )
    config.train.update(batch_size=8)
    config.eval.batch_size = 8
    return config


def get_hyperface(side: int) -> ConfigDict:
    """Return the config of the paper's HyperFace and its loss for `side` x `side` inputs.

    The attributes of a face are its pose, 21 landmarks and gender.
    """
    config = get_default("hyperface")
    config.attributes = ConfigDict(
        {
            # Squared error in radians, as in the paper.
            "head": dict(kind="pose", scale=57.29578, loss="l2", weight=5.0),
            "face": dict(
                kind="landmarks", points=LANDMARKS, flip=LANDMARK_FLIP, loss="l2", weight=5.0
            ),
            "gender": dict(kind="categorical", classes=("male", "female"), weight=2.0),
        }
    )
    config.data.resize.update(mode="square", min_size=side, max_size=side, canvases=((side, side),))
    config.data.mask_size = 1  # no masks are used
    config.optimizer.update(
        name="adamw",
        learning_rate=1e-4,
        weight_decay=0.01,
        clip_norm=10.0,
        schedule="cosine",
        warmup_steps=100,
    )
    config.train.batch_size = 64
    config.eval.update(batch_size=4, best_metric="face/nme")
    return config


def get_small_hyperface(side: int) -> ConfigDict:
    """Return a HyperFace config that trains from random weights on two CPU cores overnight, or on a
    GPU in minutes.

    A ResNet-18 of half width on regions of 128 x 128 pixels. Its last feature map is not pooled, so
    the heads keep the spatial information.
    """
    config = get_hyperface(side)
    config.model.update(trunk="resnet", pooled=False, fcs=(), head_features=128, input_size=128)
    config.model.resnet.update(depth=18, width=32)
    # The squared error is nearly insensitive to errors of a few pixels.
    config.attributes.face.loss = "l1"
    config.attributes.head.loss = "smooth_l1"
    config.optimizer.learning_rate = 2e-3
    config.train.batch_size = 128
    return config


def get_chips(side: int, channels: int) -> ConfigDict:
    """Return a MaskMTL config for face chips, resized to `side` x `side` pixels.

    Each image has one instance and no segmentation mask. The attributes are age, gender and race as
    UTKFace defines them; metrics are also computed by group of each attribute.
    """
    config = get_default("mask_mtl")
    config.attributes = ConfigDict(
        {
            "age": dict(kind="continuous", range=(0.0, 116.0), loss="distribution", weight=4.0),
            "gender": dict(kind="categorical", classes=GENDERS),
            "race": dict(kind="categorical", classes=RACES),
        }
    )
    config.data.resize.update(mode="square", min_size=side, max_size=side, canvases=((side, side),))
    config.data.update(max_instances=1, mask_size=1, channels=channels)
    config.optimizer.update(
        name="adamw",
        learning_rate=1e-3,
        clip_norm=10.0,
        schedule="cosine",
        warmup_steps=100,
    )
    config.eval.update(batch_size=64, best_metric="age/mae")
    config.eval.update(
        groups=(("age", 10.0), ("gender", 0.0), ("race", 0.0), ("masked", 0.0)),
        limits=(("age", 5.0),),
        coverage=0.9,
    )
    return config


def get_colour_chips(side: int) -> ConfigDict:
    """Return the config of a ResNet-18 with global average pooling for colour face chips.

    Checkpoints contain an exponential moving average of the weights. Evaluation averages the
    predictions of an image and its mirror image.
    """
    config = get_chips(side, channels=3)
    config.attributes.race.weight = 0.5
    config.model.trunk = "resnet"
    config.model.head.update(pool="mean", features=(256,), dropout=0.3)
    config.model.update(pixel_mean=(0.485, 0.456, 0.406), pixel_std=(0.229, 0.224, 0.225))
    config.data.augment.update(
        scale=(1.0, 1.25), brightness=0.5, contrast=0.5, saturation=0.3, blur=0.1
    )
    # The data set is small and seen for many epochs: a large weight decay prevents overfitting.
    config.optimizer.update(learning_rate=3e-3, warmup_steps=200, weight_decay=0.3)
    config.train.update(batch_size=128, ema=0.998, eval_every=500, checkpoint_every=500)
    config.eval.update(batch_size=128, flip=True)
    return config


def get_matterport(min_size: int = 800, max_size: int = 1024) -> ConfigDict:
    """Return the config of matterport's Mask R-CNN with ResNet-101 on square inputs of `max_size`.

    Weights from `python -m mtl_jax.convert matterport` require this model, also in training.
    """
    config = get_stored_default("mask_rcnn")
    model = config.model
    model.backbone.update(depth=101, norm_eps=1e-3, stride_in_1x1=True, pool_same=True)
    model.rpn.update(
        channels=512,
        anchor_ratios=(2.0, 1.0, 0.5),  # matterport's order; its ratios are width / height
        round_anchors=False,
        box_weights=(10.0, 10.0, 5.0, 5.0),
        smooth_l1_beta=1.0,
        joint_levels=True,
        pre_nms_train=6000,
        pre_nms=6000,
        min_size=0.0,
    )
    model.roi.update(corner_samples=True, round_level=True, samples=200, positive_fraction=0.33)
    model.box_head.smooth_l1_beta = 1.0
    model.detection.update(
        score_threshold=0.7,
        nms_iou=0.3,
        min_size=0.0,
        max_candidates=model.rpn.post_nms,  # one class per proposal
        best_class_only=True,
    )
    model.update(
        inclusive_boxes=True,
        size_divisible=0,
        pixel_mean=(123.7 / 255, 116.8 / 255, 103.9 / 255),
        pixel_std=(1 / 255,) * 3,
    )
    config.data.resize.update(
        mode="square",
        min_size=min_size,
        max_size=max_size,
        canvases=((max_size, max_size),),
        interpolation="float",
    )
    return config


def make_tiny(config: ConfigDict) -> ConfigDict:
    """Reduce a config, in place, to a few steps that still use every head, loss, stage and
    output.
    """
    config.stages = (
        {"layers": "heads", "steps": 2, "learning_rate": 0.0},
        {"layers": "all", "steps": 2, "learning_rate": 0.0},
    )
    config.train.update(batch_size=2, log_every=1, eval_every=2, checkpoint_every=2)
    config.eval.update(batch_size=2, images=4)
    return config
