"""HyperFace on photographs: eight sources of faces, each training what it has labels for.

    python train.py --config configs/hyperface_mixed.py
    python evaluate.py --workdir runs/hyperface_mixed

Points of HELEN, AFW and YouTube Faces, five of COCO's persons, poses and points of AFLW2000, poses
of Prima, gender of FairFace and UTKFace, and drawn heads, which have all of them and teach the
visibility. HELEN, AFW, YouTube Faces, AFLW2000 and COCO hold faces without labels: they give no
negatives and no AP, but for COCO's pictures without persons. Persons and photographs are divided,
not pictures. To evaluate a source alone: --config.data.sources="({'format':'ibug'},)".

Measured on the test's pictures, after 4,000 steps from weights of configs/hyperface_synthetic.py
with a weight of COCO of 0.3 and no negatives of it, and 1,500 more as it is now, from those
(--config.init.checkpoint=FIRST --config.optimizer.learning_rate=1e-3, stages[0].steps=1500); from
random weights, as the first command begins, it is not measured. In brackets the mean face, and the
majority:

    HELEN and AFW     19 faces  NME 0.035 (0.081), no miss
    YouTube Faces     26 faces  NME 0.035 (0.104), 1 miss
    AFLW2000           2 faces  1 missed; too few for a conclusion
    Prima            372 faces  yaw 7.8, pitch 7.9 degrees, 24 misses; AP50 0.923, 399 false alarms
    UTKFace        1,026 faces  gender 0.858 (0.568), 6 misses; AP50 0.987, 161 false alarms
    FairFace         536 faces  gender 0.843 (0.539), 47 misses, 459 false alarms

Before the 1,500 steps Prima had 534 false alarms. Landmarks lie on the faces of these, small, dark
and turned ones too; what it takes for faces beside them are hair, ears, collars and dark grounds,
at scores up to 1.
"""

from ml_collections import ConfigDict

from mtl_jax.config.defaults import get_small_hyperface, make_tiny

VARIANTS = ("", "tiny")


def get_config(variant: str = "") -> ConfigDict:
    config = get_small_hyperface(side=384)
    config.model.windows.update(min_side=84.0, growth=1.4)
    config.model.hidden_points = True  # drawn heads know them
    heads_are_faces = dict(head="face")
    # All boxes go from forehead to chin, or near that: one rectangle follows from the landmarks.
    drawn = dict(format="synthetic", split="train", length=2000, cache=True, boxes="face")
    drawn |= dict(rename=heads_are_faces, heads=(1, 3), head_heights=(0.25, 0.7), min_visible=0.7)
    # Few pictures with many labels come often, many with one label seldom.
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
    # Regions of large photographs are sharper here than on the canvas where faces are searched.
    config.data.augment.update(
        brightness=0.5, contrast=0.5, saturation=0.5, hue=0.3, blur=0.5, noise=0.2
    )
    config.data.regions.update(turn=20.0, positive_fraction=0.65)
    config.stages = (dict(layers="all", steps=8000, learning_rate=0.0),)
    config.train.update(eval_every=2000, checkpoint_every=500)
    config.eval.pictures = 300
    return make_tiny(config) if variant == "tiny" else config
