"""HyperFace on drawn scenes of heads: no file is needed.

    python train.py --config configs/hyperface_synthetic.py
    python evaluate.py --workdir runs/hyperface_synthetic

With --config.model.detection.rounds=0 the evaluation does without Iterative Region Proposals, with
--config.model.detection.landmark_nms=False without Landmarks-based NMS. Unfused is
--config.model.fused=False in training.

Measured on the test's 300 unseen scenes of 560 heads, after 4,500 steps to a learning rate of 0
(--config.stages[0].steps=4500; seed 0, two CPU cores). NME is of all points; of those that are
visible, with both, 0.027 (0.023 turned by less than 30 degrees, 0.036 by more).

    IRP  L-NMS  AP50   AP     misses  false alarms  NME    yaw, pitch, roll  gender  visibility
    yes  yes    0.989  0.656   5      44            0.032  2.4, 3.0, 1.8     0.986   0.929
    yes  no     0.980  0.669   9       7            0.033  2.4, 2.9, 1.8     0.984   0.927
    no   yes    0.980  0.620   9      41            0.034  2.5, 3.3, 1.9     0.984   0.908
    no   no     0.960  0.456  20      17            0.034  2.6, 3.4, 1.9     0.985   0.907

Unfused, as long and with the same seed, whose heads read the last stage's map alone; NME of visible
points, with both, 0.022. On these heads fusing gains nothing:

    yes  yes    0.990  0.663   5      46            0.026  2.3, 2.9, 1.8     0.987   0.927
    yes  no     0.980  0.667   9      10            0.027  2.4, 2.9, 1.9     0.993   0.926
    no   yes    0.979  0.636   6      47            0.028  2.5, 3.3, 2.1     0.987   0.910
    no   no     0.960  0.456  17      19            0.029  2.5, 3.3, 2.1     0.985   0.905

A network that answers the truth, and each point of it 5 % of a region's side astray, gives on 150
unseen scenes AP50 0.999 with both and 0.996 with neither, at IoU 0.7 AP 0.918 and 0.599.
"""

from ml_collections import ConfigDict

from mtl_jax.config.defaults import get_small_hyperface, make_tiny

VARIANTS = ("", "tiny")


def get_config(variant: str = "") -> ConfigDict:
    config = get_small_hyperface(side=192)
    config.model.hidden_points = True  # a drawn head knows them
    config.model.windows.update(min_side=56.0, growth=1.4)
    scenes = dict(format="synthetic", cache=True, size=(192, 192), heads=(1, 3))
    scenes |= dict(head_heights=(0.3, 0.7), min_visible=0.7, yaw=60.0, pitch=40.0, roll=30.0)
    # Pictures of other seeds and other textures are unseen.
    config.data.sources = (
        dict(scenes, name="train", split="train", length=10_000, seed=0),
        dict(scenes, name="val", split="val", length=60, seed=1, texture_seed=1),
        dict(scenes, name="test", split="test", length=300, seed=2, texture_seed=2),
    )
    config.stages = (dict(layers="all", steps=6000, learning_rate=0.0),)
    config.train.update(eval_every=1000, checkpoint_every=500)
    return make_tiny(config) if variant == "tiny" else config
