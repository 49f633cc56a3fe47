"""HyperFace-ResNet on AFLW: the stages of a ResNet-101 are added, with no shared layer after them.

    python train.py --config configs/hyperface_resnet.py
    python evaluate.py --workdir runs/hyperface_resnet

The variant synthetic is the same network on drawn heads, which require no files. The paper reports
NME 2.93 % and a yaw error of 6.24 degrees on AFLW. Not measured.
"""

from ml_collections import ConfigDict

from mtl_jax.config.overrides import load_config_file

VARIANTS = ("", "synthetic", "tiny")


def get_config(variant: str = "") -> ConfigDict:
    if variant == "synthetic":
        config = load_config_file("hyperface_synthetic")
        config.data.resize.update(min_size=384, max_size=384, canvases=((384, 384),))
        config.model.windows.min_side = 112.0
    else:
        config = load_config_file("hyperface_aflw:tiny" if variant else "hyperface_aflw")
        config.data.regions.proposals = "jitter"
    config.model.update(trunk="resnet", pooled=True, fcs=(), head_features=512, dropout=0.0)
    config.model.input_size = 224
    config.model.resnet.update(depth=101, width=64)
    if variant == "tiny":
        config.model.update(head_features=16, input_size=64)
        config.model.resnet.update(depth=18, width=8)
    return config
