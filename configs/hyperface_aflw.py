"""HyperFace as in the paper, on AFLW: AlexNet, five tasks, 1,000 test images.

    python train.py --config configs/rcnn_face.py:aflw --workdir runs/rcnn_face
    python train.py --config configs/hyperface_aflw.py --config.init.checkpoint=runs/rcnn_face
    python evaluate.py --workdir runs/hyperface_aflw

Training and evaluation use regions of selective search, as in the paper. They are stored in the
run folder; config.data.regions.cache sets another folder for those of training. For an evaluation
with sliding windows, pass --config.model.detection.proposals=windows. For an evaluation with the
RPN of a mask_rcnn model, pass --config.model.detection.proposals=rpn and
--config.model.detection.rpn=RUN.

Variants: unfused is Multitask_Face, whose heads read only pool5; repository is the network of the
Keras implementation (33,831,942 parameters).

The paper reports NME 4.26 % and errors of 7.61, 6.13 and 3.92 degrees for yaw, pitch and roll. Not
measured: the data set is not part of this repository and is available on request for research only.
"""

from ml_collections import ConfigDict

from mtl_jax.config.defaults import get_hyperface, make_tiny

VARIANTS = ("", "unfused", "repository", "tiny")


def get_config(variant: str = "") -> ConfigDict:
    config = get_hyperface(side=512)
    config.model.dropout = 0.5
    config.model.detection.proposals = "fast"
    config.data.format = "aflw"
    config.data.fractions = (0.93, 0.02, 0.05)  # of about 21,000 images
    config.data.regions.update(proposals="fast", per_image=32)
    config.stages = (dict(layers="all", steps=60_000, learning_rate=0.0),)
    config.train.update(eval_every=10_000, checkpoint_every=2000)
    if variant == "unfused":
        config.model.update(fused=False, fcs=(4096,))
    if variant == "repository":
        config.model.alexnet.update(variant="repository", pool2=2)
        config.model.dropout = 0.0
    if variant == "tiny":
        config.model.update(fcs=(32,), head_features=16, input_size=67)
        config.model.alexnet.width = 12
        config.model.windows.min_side = 128.0
    return make_tiny(config) if variant == "tiny" else config
