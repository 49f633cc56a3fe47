"""Age, gender and race of bare faces, 112 x 112 in colour, by a ResNet-34 on UTKFace's chips.

    python train.py --config configs/utkface_attributes.py
    python evaluate.py --workdir runs/utkface_attributes

As configs/maskmtl_best.py:bare, with a larger picture and a deeper trunk. The variant fairface adds
FairFace to the training side, its ages as ranges, its races as UTKFace's. What the labels are:
impressions of annotators and of programs, not what people say of themselves, and noisy. Do not
decide anything about a person by them.

Not measured yet.
"""

from ml_collections import ConfigDict

from mtl_jax.defaults import get_chips, make_tiny

VARIANTS = ("", "fairface", "tiny")
RACES = ("White", "Black", "Asian", "Indian", "Others")


def get_config(variant: str = "") -> ConfigDict:
    config = get_chips(side=112, channels=3)
    config.attributes = ConfigDict(
        {
            "age": dict(kind="continuous", range=(0.0, 116.0), loss="distribution", weight=4.0),
            "gender": dict(kind="categorical", classes=("male", "female")),
            "race": dict(kind="categorical", classes=RACES, weight=0.5),
        }
    )
    config.model.trunk = "resnet"
    config.model.backbone.depth = 34
    config.model.head.update(pool="mean", features=(256,), dropout=0.3)
    config.model.update(pixel_mean=(0.485, 0.456, 0.406), pixel_std=(0.229, 0.224, 0.225))
    config.data.sources = (dict(format="utkface"),)
    if variant == "fairface":
        more = dict(format="fairface", split="train", attribute_preset="utkface")
        config.data.sources += (more,)
    config.data.augment.update(
        scale=(1.0, 1.2), brightness=0.5, contrast=0.5, saturation=0.3, blur=0.1
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
        config.model.backbone.update(depth=18, width=8)
    return make_tiny(config) if variant == "tiny" else config
