"""Balloons in 52 photographs, annotated with VIA; detection and masks.

    python train.py --config configs/balloon.py

TODO: header
"""

from mtl_jax.defaults import get_small, make_tiny

VARIANTS = ("", "tiny")


def get_config(variant: str = ""):
    config = get_small(512)
    config.data.sources = (dict(format="via", path="balloon", categories=("balloon",)),)
    config.data.fractions = (0.7, 0.0, 0.3)
    config.data.update(mask_size=112)
    config.stages = ({"layers": "all", "steps": 1000},)
    if variant == "tiny":
        make_tiny(config)
    return config
