"""Mask R-CNN R50-FPN on COCO 2017, torchvision's recipe: 26 epochs, batches of 16, 800 x 1333.

    MTL_JAX_DATA=/data python train.py --config configs/coco_mask_rcnn.py

/data/coco must contain annotations/, train2017/ and val2017/. Training starts from random weights,
which requires batch norm. Not measured, since it requires accelerators; torchvision reports box AP
37.9 and mask AP 34.6 from ImageNet weights.
"""

from ml_collections import ConfigDict

from mtl_jax.config.defaults import get_default, make_tiny

VARIANTS = ("", "tiny")


def get_config(variant: str = "") -> ConfigDict:
    config = get_default()
    config.model.backbone.norm = "batch"
    config.data.sources = tuple(
        dict(
            format="coco",
            path="coco",
            name=split,
            split=split,
            annotations=f"annotations/instances_{year}.json",
            images=year,
        )
        for split, year in (("train", "train2017"), ("val", "val2017"))
    )
    config.stages = (dict(layers="all", steps=190_000, learning_rate=0.0),)
    config.train.update(batch_size=16, eval_every=20_000, checkpoint_every=2000)
    config.eval.best_metric = "mask/AP"
    if variant == "tiny":
        source = dict(format="coco", path="coco_mini", annotations="annotations/instances.json")
        config.data.sources = (source,)
        config.data.resize.update(min_size=128, max_size=192, canvases=((128, 192), (192, 128)))
        config.model.backbone.update(depth=18, width=16)
        config.model.fpn.channels = 32
        config.model.box_head.fc_features = 64
        make_tiny(config)
    return config
