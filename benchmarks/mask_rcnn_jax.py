"""Our half of `benchmarks.mask_rcnn`."""

import argparse
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.mask_rcnn import CLASSES, Scene, ellipse
from mtl_jax.models.mask_rcnn import mask_rcnn
from mtl_jax.models.options import DetectionOptions, MaskRCNNOptions
from mtl_jax.results import paste_mask
from mtl_jax.types import Batch, Detections, GroundTruth, Model, Variables

SLOTS, MASK_SIDE = 100, 112  # of the ground truth: the input pipeline's defaults


def cases(scene: Scene, options: argparse.Namespace) -> dict[str, Callable[[], Any]]:
    """Give what is timed by name; each returns what it found."""
    batch = to_batch(scene)
    model, variables = _model(options, 0.0), _variables(_model(options, 0.0), batch, options)

    def detector(threshold: float) -> Callable[[], Detections]:
        predict = jax.jit(_model(options, threshold).predict)

        def detect() -> Detections:
            found = jax.device_get(predict(variables, batch))
            for boxes, masks, valid in zip(found.boxes, found.masks, found.valid, strict=True):
                paste(boxes[valid], masks[valid], options.size)
            return found

        return detect

    all_of_them = detector(0.0)
    scores = all_of_them().scores
    found = max(1, options.found * options.batch)
    ranked = np.sort(scores.ravel())[::-1]
    few = detector(float(ranked[found - 1] + ranked[found]) / 2)

    optimizer = optax.sgd(1e-5, momentum=0.9)
    # A copy, as a step donates its state.
    state = [jax.tree.map(jnp.copy, (variables["params"], optimizer.init(variables["params"])))]

    def update(state: Any, batch: Batch) -> tuple[Any, jax.Array]:
        params, moments = state

        def loss(params: Any) -> jax.Array:
            return model.loss({**variables, "params": params}, batch, jax.random.key(0))[0]

        value, gradient = jax.value_and_grad(loss)(params)
        updates, moments = optimizer.update(gradient, moments, params)
        return (optax.apply_updates(params, updates), moments), value

    compiled = jax.jit(update, donate_argnums=0)

    def step() -> float:
        state[0], loss = jax.block_until_ready(compiled(state[0], batch))
        return float(loss)

    return {
        "100": lambda: all_of_them().valid.sum(1).tolist(),
        "few": lambda: few().valid.sum(1).tolist(),
        "train": step,
    }


def to_batch(scene: Scene) -> Batch:
    """Give the pictures as the input pipeline does: uint8, objects in slots, masks in boxes."""
    count, size = scene.images.shape[:2]

    def slots(x: np.ndarray) -> np.ndarray:
        return np.pad(x, ((0, 0), (0, SLOTS - x.shape[1]), *((0, 0),) * (x.ndim - 2)))

    yes = np.ones(count, bool)
    valid = slots(np.ones(scene.classes.shape, bool))
    masks = 255 * ellipse(scene.boxes, scene.boxes, MASK_SIDE).astype(np.uint8)
    gt = GroundTruth(
        boxes=slots(scene.boxes),
        classes=slots(scene.classes).astype(np.int32),
        valid=valid,
        crowd=np.zeros_like(valid),
        masks=slots(masks),
        mask_valid=valid,
        attributes={},
    )
    sizes = np.full((count, 2), size, np.float32)
    return Batch(scene.images, sizes, yes, yes, np.arange(count, dtype=np.int32), gt)


def paste(boxes: np.ndarray, masks: np.ndarray, size: int) -> np.ndarray:
    """Put the masks where their boxes are in the picture: bool [D, H, W]."""
    empty = [np.zeros((0, size, size), bool)]
    pasted = [paste_mask(mask, box, size, size)[None] for mask, box in zip(masks, boxes, strict=True)]
    return np.concatenate(empty + pasted)


def _model(options: argparse.Namespace, threshold: float) -> Model:
    detection = replace(DetectionOptions(), score_threshold=threshold)
    return mask_rcnn(MaskRCNNOptions(detection=detection, dtype=options.dtype), CLASSES)


def _variables(model: Model, batch: Batch, options: argparse.Namespace) -> Variables:
    variables = jax.jit(model.init)(jax.random.key(0), batch)
    bias = variables["params"]["box_head"]["class_logits"]["bias"]
    variables["params"]["box_head"]["class_logits"]["bias"] = bias.at[1 + options.alive :].set(-1e4)

    def tame(path: Any, leaf: jax.Array) -> jax.Array:
        return leaf * 0.25 if "['norm3']['norm']['scale']" in jax.tree_util.keystr(path) else leaf

    return jax.tree_util.tree_map_with_path(tame, variables)


def parts(scene: Scene, options: argparse.Namespace) -> dict[str, Callable[[], Any]]:
    """Give nothing yet."""
    return {}
