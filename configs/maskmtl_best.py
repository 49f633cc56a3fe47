"""Age, gender and race of faces in masks, 64 x 64 in colour: a ResNet-18 for MaskMTL's trunk.

    python train.py --config configs/maskmtl_best.py
    python evaluate.py --workdir runs/maskmtl_best
    python evaluate.py --workdir runs/maskmtl_best "--config.data.sources[0].masks=0.5"

UTKFace's chips; in training a face wears another mask each time, three of four times, in the
validation and the test always the same one; with the last command half of the test's faces are
bare, and errors are given by masked. The variant bare is without masks. Heads read the mean
of the last map; age is learnt as a distribution; an average of the weights is what is kept.

Not measured yet to its end.
"""

from ml_collections import ConfigDict

from mtl_jax.defaults import get_chips, make_tiny

VARIANTS = ("", "bare", "tiny")
RACES = ("White", "Black", "Asian", "Indian", "Others")


def get_config(variant: str = "") -> ConfigDict:
    config = get_chips(side=64, channels=3)
    config.attributes = ConfigDict(
        {
            "age": dict(kind="continuous", range=(0.0, 116.0), loss="distribution", weight=4.0),
            "gender": dict(kind="categorical", classes=("male", "female")),
            "race": dict(kind="categorical", classes=RACES, weight=0.5),
        }
    )
    config.model.trunk = "resnet"
    config.model.head.update(pool="mean", features=(256,), dropout=0.3)
    config.model.update(pixel_mean=(0.485, 0.456, 0.406), pixel_std=(0.229, 0.224, 0.225))
    masks = 0.0 if variant == "bare" else 1.0
    config.data.sources = (
        dict(format="utkface", masks=masks, mask_splits=("val", "test", "external")),
    )
    config.data.augment.update(
        mask=0.75 * masks, scale=(1.0, 1.2), brightness=0.5, contrast=0.5, saturation=0.3, blur=0.1
    )
    config.optimizer.update(
        name="adamw",
        learning_rate=2e-3,
        weight_decay=0.05,
        clip_norm=10.0,
        schedule="cosine",
        warmup_steps=100,
    )
    config.stages = (dict(layers="all", steps=3000, learning_rate=0.0),)  # 40 epochs of 4,790 chips
    config.train.update(batch_size=64, ema=0.995, eval_every=250, checkpoint_every=250)
    config.eval.best_metric = "age/mae"
    config.eval.update(
        groups=(("age", 10.0), ("gender", 0.0), ("race", 0.0), ("masked", 0.0)),
        limits=(("age", 5.0),),
        coverage=0.9,
    )
    if variant == "tiny":
        config.model.backbone.width = 8
    return make_tiny(config) if variant == "tiny" else config
