"""Mask R-CNN with five kinds of attributes on drawn scenes of heads, which require no files.

    python train.py --config configs/mtl_synthetic.py
    python evaluate.py --workdir runs/mtl_synthetic

Measured on split test, 500 scenes with 1,348 heads (seed 0, commit e7e951e, 2.8 hours on two CPU
cores, partly shared with other work), with the best constant predictor (median or majority class)
in parentheses: box AP50 0.990, mask AP50 0.990, 1 false negative, 14 false positives; age 7.3
(24.6); yaw 3.1, pitch 3.8, roll 3.2 degrees (18.2, 18.4, 21.9); gender 0.972 (0.502); smile 0.938
(0.319); NME of landmarks 0.041 (0.220), their visibility 0.931 (0.880). Regions and masks were
computed as in torchvision (--config.model.roi.aligned=False, --config.model.mask_head.exact=False).

The variant quickstart has smaller images, larger heads with smaller angles, and fewer steps. `make
quickstart` took 10.8 minutes on 2 CPU cores, including the installation, and 16.3 minutes on busy
cores; box AP50 0.966 ± 0.001 and mask AP50 0.920 ± 0.009 on 500 test scenes with the default
regions and masks, three seeds (docs/results.md lists the attributes).

The variant notebook is trained by the notebooks if there is no run, in 134 seconds of CPU time:
box and mask AP50 1.000 on 60 test scenes without overlapping heads. Its attributes are no better
than the best constant predictor's.
"""

from ml_collections import ConfigDict

from mtl_jax.config.defaults import get_small, make_tiny
from mtl_jax.data.synthetic.head_scenes import ATTRIBUTES

VARIANTS = ("", "quickstart", "notebook", "tiny")


def get_config(variant: str = "") -> ConfigDict:
    config = get_small(side={"": 256, "notebook": 96}.get(variant, 128))
    # One label per instance has a weaker gradient than hundreds of mask pixels, and a label that
    # depends on few pixels, such as smile, a weaker one than the others: hence the weights.
    weights = dict(age=4.0, gender=3.0, smile=5.0, head=6.0, face=2.0)
    config.attributes = ConfigDict({k: dict(v, weight=weights[k]) for k, v in ATTRIBUTES.items()})
    scenes = dict(format="synthetic", cache=True)
    if not variant:
        scenes |= dict(heads=(2, 4), head_heights=(0.25, 0.65), min_visible=0.7)
        scenes |= dict(yaw=50.0, pitch=50.0, roll=60.0)
        config.model.attribute_head.update(convs=3, channels=128)
    else:  # notebook and tiny are shorter versions of quickstart
        scenes |= dict(size=(128, 128), heads=(1, 2), head_heights=(0.5, 0.95))
        scenes |= dict(yaw=45.0, pitch=35.0, roll=30.0)
        config.model.attribute_head.features = 128
        config.model.roi.samples = 24
    length = 12000 if not variant else 2000
    # Other seeds and other textures: no scene of val or test is in the training split.
    config.data.sources = (
        dict(scenes, name="train", split="train", length=length, seed=0),
        dict(scenes, name="val", split="val", length=100, seed=1, texture_seed=1),
        dict(scenes, name="test", split="test", length=500, seed=2, texture_seed=2),
    )
    config.stages = (dict(layers="all", steps=9000, learning_rate=0.0),)
    config.train.update(eval_every=1500, checkpoint_every=500)
    config.eval.best_metric = "mask/AP50"
    if variant == "quickstart":
        config.stages = (dict(layers="all", steps=1400, learning_rate=0.0),)
        config.train.update(eval_every=1400)
    if variant == "notebook":
        for block, length in zip(config.data.sources, (300, 20, 60), strict=True):
            block.update(length=length, head_heights=(0.4, 0.7), min_visible=0.85)
        config.stages = (dict(layers="all", steps=160, learning_rate=0.0),)
        config.optimizer.warmup_steps = 30
        config.train.update(eval_every=0, checkpoint_every=0)
        config.eval.loss = False
    return make_tiny(config) if variant == "tiny" else config
