"""This library's half of `benchmarks.mask_rcnn`."""

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict

from benchmarks.mask_rcnn_scene import CLASSES, Scene, ellipse
from mtl_jax.config.options.mask_rcnn import DetectionOptions, MaskRCNNOptions
from mtl_jax.convert import torchvision_names as names
from mtl_jax.models.backbones import make_backbone, pyramid_strides
from mtl_jax.models.ground_truth import image_keys
from mtl_jax.models.mask_rcnn.network import Network, mask_rcnn
from mtl_jax.models.mask_rcnn.pooling import pool_regions
from mtl_jax.models.mask_rcnn.proposals import Anchors, select_detections
from mtl_jax.models.mask_rcnn.targets import sample_batch_anchors, sample_regions
from mtl_jax.models.padding import is_inside, normalize, outline
from mtl_jax.results import paste_mask
from mtl_jax.training.step import make_loss
from mtl_jax.types import Batch, Detections, GroundTruth, Model, Proposals, Variables

SLOTS, MASK_SIDE = 100, 112  # of the ground truth; the input pipeline's defaults


def cases(scene: Scene, options: argparse.Namespace, weights: Path) -> dict[str, Callable[[], Any]]:
    """Return the timed functions by name. Writes the weights for the other libraries."""
    batch = to_batch(scene)
    model, variables = _model(options, 0.0), _variables(batch, options, weights)
    height, width = scene.images.shape[1:3]

    def detector(threshold: float) -> Callable[[], Detections]:
        predict = jax.jit(_model(options, threshold).predict)

        def detect() -> Detections:
            found = jax.device_get(predict(variables, batch.inputs))
            for boxes, masks, valid in zip(found.boxes, found.masks, found.valid, strict=True):
                paste(boxes[valid], masks[valid], height, width)
            return found

        return detect

    all_of_them = detector(0.0)
    scores = all_of_them().scores
    found = max(1, options.found * len(scene.images))
    ranked = np.sort(scores.ravel())[::-1]
    few = detector(float(ranked[found - 1] + ranked[found]) / 2)

    optimizer = optax.sgd(1e-5, momentum=0.9)
    # Copied because a step donates its state.
    state = [jax.tree.map(jnp.copy, (variables["params"], optimizer.init(variables["params"])))]

    def update(state: Any, stats: Any, batch: Batch) -> tuple[Any, jax.Array]:
        params, moments = state

        def loss(params: Any) -> jax.Array:
            trained = {"params": params, "batch_stats": stats}
            return make_loss(model)(trained, batch, jax.random.key(0))[0]

        value, gradient = jax.value_and_grad(loss)(params)
        updates, moments = optimizer.update(gradient, moments, params)
        return (optax.apply_updates(params, updates), moments), value

    compiled = jax.jit(update, donate_argnums=0)

    def step() -> float:
        updated = compiled(state[0], variables["batch_stats"], batch)
        state[0], loss = jax.block_until_ready(updated)
        return float(loss)

    return {
        "100": lambda: all_of_them().valid.sum(1).tolist(),
        "few": lambda: few().valid.sum(1).tolist(),
        "train": step,
    }


def to_batch(scene: Scene) -> Batch:
    """Return a batch like the input pipeline's: uint8, objects in slots, masks in boxes."""
    count, height, width = scene.images.shape[:3]
    beyond = ((0, 0), (0, -height % 32), (0, -width % 32), (0, 0))

    def slots(x: np.ndarray) -> np.ndarray:
        return np.pad(x, ((0, 0), (0, SLOTS - x.shape[1]), *((0, 0),) * (x.ndim - 2)))

    yes = np.ones(count, bool)
    valid = slots(np.ones(scene.classes.shape, bool))
    masks = 255 * ellipse(scene.boxes, scene.boxes, MASK_SIDE).astype(np.uint8)
    gt = GroundTruth(
        boxes=slots(scene.boxes),
        classes=slots(scene.classes).astype(np.int32),
        valid=valid,
        masks=slots(masks),
        mask_valid=valid,
        ignored=np.zeros((count, 1, 4), np.float32),
        attributes={},
    )
    sizes = np.tile(np.array([height, width], np.float32), (count, 1))
    return Batch(
        np.pad(scene.images, beyond), sizes, yes, yes, np.arange(count, dtype=np.int32), gt
    )


def paste(boxes: np.ndarray, masks: np.ndarray, height: int, width: int) -> np.ndarray:
    """Paste the masks at their boxes into the image: bool [D, H, W]."""
    empty = [np.zeros((0, height, width), bool)]
    pasted = [
        paste_mask(mask, box, height, width)[None] for mask, box in zip(masks, boxes, strict=True)
    ]
    return np.concatenate(empty + pasted)


def _model(options: argparse.Namespace, threshold: float) -> Model:
    return mask_rcnn(_options(options, threshold), CLASSES)


def _options(options: argparse.Namespace, threshold: float) -> MaskRCNNOptions:
    detection = replace(DetectionOptions(), score_threshold=threshold)
    return MaskRCNNOptions(detection=detection, dtype=options.dtype)


def _variables(batch: Batch, options: argparse.Namespace, weights: Path) -> Variables:
    """Initialise the variables, and write them with torchvision's names."""
    one = jax.tree.map(lambda x: x[:1], batch)
    variables = jax.jit(_model(options, 0.0).init)(jax.random.key(0), one.inputs)
    bias = variables["params"]["box_head"]["class_logits"]["bias"]
    variables["params"]["box_head"]["class_logits"]["bias"] = bias.at[1 + options.alive :].set(-1e4)

    def tame(path: Any, leaf: jax.Array) -> jax.Array:
        return leaf * 0.25 if "['norm3']['norm']['scale']" in jax.tree_util.keystr(path) else leaf

    variables = jax.tree_util.tree_map_with_path(tame, variables)
    tensors = names.model_tensors(_options(options, 0.0))
    ours: Any = flatten_dict(jax.device_get(variables), sep="/")
    theirs: dict[str, Any] = names.to_state_dict(ours, tensors)
    np.savez(weights, **theirs)
    return variables


def parts(scene: Scene, options: argparse.Namespace, weights: Path) -> dict[str, Callable[[], Any]]:
    """Return functions that run the network's parts by name: forward, and forward with backward."""
    o = _options(options, 0.0)
    batch = jax.tree.map(jnp.asarray, to_batch(scene))
    variables = _variables(to_batch(scene), options, weights)
    height, width = scene.images.shape[1:3]
    network = Network(o, CLASSES, (), False, False)
    known: dict[str, Callable[[], Any]] = {}

    def part(name: str, method: Callable, *inputs: Any, trained: Any = ()) -> Any:
        """Add a part, with its backward pass on the inputs `trained`; return its outputs."""

        def forward(variables: Variables, *inputs: Any) -> Any:
            return network.apply(variables, *inputs, method=method)

        def total(params: Any, stats: Any, inputs: Any) -> jax.Array:
            outputs = forward({"params": params, "batch_stats": stats}, *inputs)
            return jnp.stack([x.sum() for x in jax.tree.leaves(outputs)]).sum()

        known[name] = partial(_wait, jax.jit(forward), variables, *inputs)
        if trained:
            gradient = jax.jit(jax.grad(total, (0, 2)))
            sides = variables["params"], variables["batch_stats"], trained
            known[f"{name}, backward"] = partial(_wait, gradient, *sides)
        return known[name]()

    def rows(x: jax.Array) -> jax.Array:
        return x.reshape(-1, *x.shape[2:])

    strides = pyramid_strides(make_backbone(o.backbone, train=False, dtype=o.dtype))
    empty = outline(batch.inputs, o.size_divisible, strides)
    whole, inside = is_inside(empty.extent, batch.valid, batch.images.shape[1:3]), empty.inside
    images = part("normalize", lambda _, x: normalize(x, o.pixel_mean, o.pixel_std), batch.inputs)
    features = part("backbone", lambda n, x: n.backbone(x, whole), images, trained=(images,))
    levels = part("fpn", lambda n, x: n.fpn(x, inside[:-1]), features, trained=(features,))
    part("rpn head", lambda n, x: n.rpn(x, inside), levels, trained=(levels,))
    pyramid = empty._replace(levels=levels)
    propose = partial(part, "rpn head, proposals", lambda n, *x: n._proposals(*x))
    regions, _, _, anchors = propose(pyramid, batch.sizes)
    part("targets", lambda _, *x: _targets(o, *x), batch, anchors, regions)
    fewer = regions.boxes[:, : o.roi.samples]

    def pool(name: str, boxes: jax.Array, size: int, trained: jax.Array) -> Any:
        def method(network: Network, levels: Any, boxes: jax.Array) -> jax.Array:
            shown = pyramid._replace(levels=levels)
            return rows(pool_regions(shown, boxes, size, strides[:-1], o))

        return part(name, method, levels, boxes, trained=(levels, trained))

    pooled = pool("box roi_align", regions.boxes, 7, fewer)
    fewer = (pooled[: fewer.shape[0] * fewer.shape[1]],)
    head = partial(part, "box head", lambda n, x: n.box_head(x, jnp.ones(len(x), bool)))
    outputs = [x.reshape(len(whole), -1, *x.shape[1:]) for x in head(pooled, trained=fewer)]
    select = jax.vmap(partial(select_detections, box_options=o.box_head, options=o.detection))
    found = part("detections", lambda _, *x: select(*x), *outputs, regions, batch.sizes)
    pooled = pool("mask roi_align", found.boxes, 14, found.boxes)
    classes, valid = rows(found.classes), rows(found.valid)
    head = partial(part, "mask head", lambda n, x: n.mask_head(x, classes, valid))
    masks, boxes = jax.device_get((head(pooled, trained=(pooled,)), rows(found.boxes)))
    known["paste"] = lambda: len(paste(boxes, masks, height, width))
    return {name: partial(_quietly, run) for name, run in known.items()}


def _targets(o: MaskRCNNOptions, batch: Batch, anchors: Anchors, regions: Proposals) -> Any:
    """Match and sample anchors and proposals; training has twice the proposals of inference."""
    keys = image_keys(jax.random.key(0), jnp.arange(len(batch.images)))
    twice = jax.tree.map(lambda x: jnp.concatenate([x, x], 1), regions)
    sampler = partial(sample_regions, options=o.roi, box_weights=o.box_head.box_weights)
    return (
        sample_batch_anchors(keys, anchors, batch.gt, batch.valid, o.rpn),
        jax.vmap(sampler)(keys, twice, batch.gt, batch.valid),
    )


def _wait(function: Callable, *inputs: Any) -> Any:
    return jax.block_until_ready(function(*inputs))


def _quietly(run: Callable[[], Any]) -> None:
    run()
