"""HyperFace on photographs: eight data sets of faces, each used for the attributes it annotates.

    python train.py --config configs/hyperface_mixed.py
    python evaluate.py --workdir runs/hyperface_mixed

Labels: landmarks of HELEN, AFW and YouTube Faces, five landmarks of persons in COCO, landmarks and
pose of AFLW2000, pose of Prima, gender of FairFace and UTKFace. Drawn heads have all labels and are
the only ones with the visibility of landmarks. HELEN, AFW, YouTube Faces, AFLW2000 and COCO contain
unlabelled faces: except for COCO images without persons, they are not used for negatives or AP.
Splits never divide a person or a photograph. To evaluate one source, pass
--config.data.sources="({'format':'ibug'},)".

Measured on split test after two trainings: 4,000 steps from weights of
configs/hyperface_synthetic.py with weight 0.3 for COCO and no negatives from it, then 1,500 steps
of this config from the result (--config.init.checkpoint=FIRST
--config.optimizer.learning_rate=1e-3, stages[0].steps=1500). Training from random weights, as in
the first command, is not measured. FN are false negatives, FP false positives. In parentheses:
the mean face for NME, the majority class for gender.

    HELEN and AFW     19 faces  NME 0.035 (0.081), 0 FN
    YouTube Faces     26 faces  NME 0.035 (0.104), 1 FN
    AFLW2000           2 faces  1 FN; too few for a conclusion
    Prima            372 faces  yaw 7.8, pitch 7.9 degrees, 24 FN; AP50 0.923, 399 FP
    UTKFace        1,026 faces  gender 0.858 (0.568), 6 FN; AP50 0.987, 161 FP
    FairFace         536 faces  gender 0.843 (0.539), 47 FN, 459 FP

Before the 1,500 steps Prima had 534 false positives. The landmarks are accurate on faces of these
data sets, also on small, dark and turned faces. The false positives are hair, ears, collars and
dark backgrounds, with scores up to 1.
"""

from ml_collections import ConfigDict

from mtl_jax.config.defaults import get_small_hyperface, make_tiny

VARIANTS = ("", "tiny")


def get_config(variant: str = "") -> ConfigDict:
    config = get_small_hyperface(side=384)
    config.model.windows.update(min_side=84.0, growth=1.4)
    config.model.hidden_points = True  # drawn heads annotate them
    heads_are_faces = dict(head="face")
    # All boxes extend approximately from forehead to chin, so that landmarks determine the box.
    drawn = dict(format="synthetic", split="train", length=2000, cache=True, boxes="face")
    drawn |= dict(rename=heads_are_faces, heads=(1, 3), head_heights=(0.25, 0.7), min_visible=0.7)
    # Small data sets with many labels have high weights, large ones with one label low weights.
    config.data.sources = (
        dict(format="ibug", weight=8.0),
        dict(format="youtube_faces", weight=6.0),
        dict(format="aflw2000", weight=6.0),
        dict(format="prima", rename=heads_are_faces),
        dict(format="fairface", weight=0.3),
        dict(format="utkface", weight=0.2),
        dict(format="coco_faces", annotations="annotations/person_keypoints.json", weight=6.0),
        drawn,
    )
    # Training regions of large photographs are sharper than the resized images of evaluation.
    config.data.augment.update(
        brightness=0.5, contrast=0.5, saturation=0.5, hue=0.3, blur=0.5, noise=0.2
    )
    config.data.regions.update(turn=20.0, positive_fraction=0.65)
    config.stages = (dict(layers="all", steps=8000, learning_rate=0.0),)
    config.train.update(eval_every=2000, checkpoint_every=500)
    config.eval.images = 300
    return make_tiny(config) if variant == "tiny" else config
