"""Mask R-CNN on the balloon data set: 52 photographs, annotated with VIA, one class.

    python -m mtl_jax.visualize data --config configs/balloon.py --output look
    python train.py --config configs/balloon.py:pretrain --workdir runs/pretrain
    python train.py --config configs/balloon.py --config.init.checkpoint=runs/pretrain
    python evaluate.py --workdir runs/balloon

Without a checkpoint, training starts from random weights. Variants:

    pretrain  the same network on drawn heads and COCO photographs
    resnet50  torchvision's network, from its public weights, which are downloaded, or from its
              backbone with --config.init.checkpoint=resnet50 --config.model.backbone.norm_eps=1e-5.
              Not measured, since those weights were not available.

Measured on the 16 photographs that are not used for training (splits val and test;
benchmarks.finetune, with torchvision's regions and masks: --config.model.roi.aligned=False and
--config.model.mask_head.exact=False), three seeds, two CPU cores, AP50 of boxes and masks: 200
steps (--config.stages[0].steps=200) from 1,000 steps of pretrain, 0.573 ± 0.012 and 0.573 ± 0.012;
torchvision from the same weights, with the same batches and optimizer, 0.571 ± 0.015 and 0.573 ±
0.018. All 400 steps from random weights, 0.302 ± 0.017 and 0.296 ± 0.037; torchvision, 0.292 ±
0.054 and 0.283 ± 0.053.
"""

from ml_collections import ConfigDict

from mtl_jax.config.defaults import get_default, get_small, make_tiny

VARIANTS = ("", "pretrain", "resnet50", "tiny")


def get_config(variant: str = "") -> ConfigDict:
    if variant == "resnet50":
        config = get_default()
        config.init.checkpoint = "maskrcnn_resnet50_fpn"
        # As these weights were trained.
        config.model.backbone.norm_eps = 0.0
        config.model.roi.aligned = False
        config.model.mask_head.exact = False
        config.optimizer.update(schedule="cosine", warmup_steps=100)
        config.train.batch_size = 2
    else:
        config = get_small(side=352)
        config.model.backbone.width = 64  # torchvision's, for weight conversion both ways
        config.data.resize.update(
            mode="shorter", min_size=256, max_size=352, canvases=((256, 352), (352, 256))
        )
        config.model.roi.samples = 64
        config.model.detection.max_detections = 50
        config.train.batch_size = 4
    config.data.augment.scale = (0.7, 1.4)
    config.data.max_instances = 50
    config.train.eval_every = 0
    config.eval.best_metric = "mask/AP50"
    if variant == "pretrain":
        config.data.sources = (
            dict(format="coco", path="coco_mini", annotations="annotations/instances.json"),
            dict(format="synthetic", length=5000),
        )
        config.stages = (dict(layers="all", steps=2000, learning_rate=0.0),)
    else:
        config.data.sources = (dict(format="via", path="balloon", categories=("balloon",)),)
        config.data.fractions = (0.7, 0.1, 0.2)
        rate = 2.5e-3 if variant == "resnet50" else 3e-4  # for sgd and for adamw
        config.stages = (dict(layers="all", steps=400, learning_rate=rate),)
    return make_tiny(config) if variant == "tiny" else config
