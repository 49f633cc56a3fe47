"""Gain of IRP and L-NMS on drawn scenes, with a network that predicts the truth with noise.

The images' pixel values are their x and y, so that a region's values determine its position.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from drawn_faces import SIDE, drawn_scenes
from faces import DECLARED
from models.hyperface.test_face_rectangle import FACE, learn

from mtl_jax.config.options.hyperface import FaceDetectionOptions, HyperFaceOptions, WindowOptions
from mtl_jax.models.hyperface.face_search import Search
from mtl_jax.ops import boxes as box_ops

PIXELS = 8  # side of a region
OPTIONS = HyperFaceOptions(
    trunk="resnet",
    input_size=PIXELS,
    hidden_points=True,
    windows=WindowOptions(56, 1.4, 0.25),
    detection=FaceDetectionOptions(chunk=256, max_detections=20),
)
RAMP = np.stack(np.meshgrid(np.arange(SIDE) + 0.5, np.arange(SIDE) + 0.5), -1)
IMAGE = np.concatenate([RAMP, np.zeros((SIDE, SIDE, 1))], -1).astype(np.float32)


def answer(scene, noise, key, regions, valid):
    """Predict the head that a region overlaps most, with a noisy score and noisy points.

    The mean distance of the points from the true ones is `noise` times the region's side; a part of
    it is common to all 21 points.
    """
    del valid
    first, last = regions[:, 0, 0, :2], regions[:, -1, -1, :2]
    half_bin = (last - first) / (PIXELS - 1) / 2  # the outer samples are half a bin inside
    regions = jnp.concatenate([first - half_bin, last + half_bin], -1)
    iou = jnp.where(scene.valid, box_ops.iou(regions, scene.boxes), 0)
    best = jnp.argmax(iou, 1)
    keys = jax.random.split(jax.random.fold_in(key, jnp.int32(1000 * regions.sum())), 3)
    logit = 12 * (iou.max(1) - 0.5) + jax.random.normal(keys[0], (len(regions),))
    deviation = noise / np.sqrt(np.pi / 2)
    each, common = (
        part * deviation * jax.random.normal(k, (len(regions), n, 2))
        for part, k, n in ((0.6, keys[1], 21), (0.8, keys[2], 1))
    )
    sides = (regions[:, 2:] - regions[:, :2])[:, None]
    middle = (regions[:, :2] + regions[:, 2:])[:, None] / 2
    places = (scene.points[best, :, :2] - middle) / sides + each + common
    nothing = jnp.zeros((len(regions), 3))
    return {
        "class_logits": jnp.stack([-logit / 2, logit / 2], -1),
        "face_output": places.reshape(len(regions), -1),
        "visible_face_output": 18 * scene.points[best, :, 2] - 9,
        "head_output": nothing,
        "gender_output": nothing[:, :2],
    }


def share_found(scenes, face, noise, least, **changes):
    """Return the fraction of heads found with an IoU >= `least`, and the detections per head."""
    options = replace(OPTIONS, detection=replace(OPTIONS.detection, **changes))
    size = jnp.full(2, SIDE, jnp.float32)

    def find(args):
        scene, key = args

        def look(regions, valid):
            return answer(scene, noise, key, regions, valid)

        return Search(look, DECLARED, FACE, options, face, jnp.asarray(IMAGE), size).run()

    keys = jax.random.split(jax.random.key(0), len(scenes.valid))
    found = jax.jit(lambda *args: jax.lax.map(find, args))(scenes, keys)
    hits = 0
    for boxes, valid, truth, there in zip(
        found.boxes, found.valid, scenes.boxes, scenes.valid, strict=True
    ):
        iou = np.array(oracles.iou(np.asarray(boxes)[np.asarray(valid)], truth[there]))
        hits += (iou.max(0) >= least).sum()
    return hits / scenes.valid.sum(), found.valid.sum() / scenes.valid.sum()


@pytest.mark.slow
def test_the_two_algorithms_find_more_precise_boxes_than_windows():
    heads = drawn_scenes(80, seed=0).heads()
    face, _ = learn([heads], replace(OPTIONS, input_size=SIDE))
    scenes = drawn_scenes(25, seed=2)
    windows, _ = share_found(scenes, face, 0.05, 0.7, rounds=0, landmark_nms=False)
    both, each = share_found(scenes, face, 0.05, 0.7)
    assert both > windows + 0.1
    assert both > 0.85
    assert each < 1.2  # heads are not found twice
    noisy, _ = share_found(scenes, face, 0.15, 0.5)
    assert noisy > 0.95
