"""Random batches for tests, the options of a minimal Mask R-CNN, and models with random
variables.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from mtl_jax.attributes.base import Attribute
from mtl_jax.attributes.categorical import Categorical
from mtl_jax.attributes.continuous import Continuous
from mtl_jax.attributes.landmarks import Landmarks
from mtl_jax.attributes.ordinal import Ordinal
from mtl_jax.attributes.pose import Pose
from mtl_jax.config.options.backbone import BackboneOptions
from mtl_jax.config.options.mask_rcnn import (
    AttributeHeadOptions,
    BoxHeadOptions,
    DetectionOptions,
    FpnOptions,
    MaskHeadOptions,
    MaskRCNNOptions,
    RoiOptions,
    RpnOptions,
)
from mtl_jax.training.step import make_loss
from mtl_jax.types import AttributeLabels, Batch, Detections, GroundTruth, Model, Variables

ATTRIBUTES: tuple[Attribute, ...] = (
    Categorical("gender", classes=("male", "female")),
    Ordinal("smile", classes=("none", "slight", "broad")),
    Continuous("age", range=(0.0, 100.0)),
    Pose("head"),
    Landmarks("face", points=("left", "right"), flip=(("left", "right"),)),
)
TINY = MaskRCNNOptions(
    backbone=BackboneOptions(depth=18, width=8, norm="batch"),
    fpn=FpnOptions(channels=16),
    rpn=RpnOptions(
        anchor_sizes=((8,), (16,), (32,), (64,), (128,)),
        samples=32,
        pre_nms_train=64,
        pre_nms=64,
        post_nms_train=32,
        post_nms=32,
    ),
    roi=RoiOptions(samples=16),
    box_head=BoxHeadOptions(fc_features=32),
    mask_head=MaskHeadOptions(convs=1, channels=16),
    attribute_head=AttributeHeadOptions(pool_size=8, convs=1, channels=16, features=16),
    detection=DetectionOptions(max_detections=8, max_candidates=64),
)


def random_batch(
    images: int = 2,
    size: int = 64,
    slots: int = 4,
    objects: int = 2,
    side: int = 14,
    channels: int = 3,
    num_classes: int = 3,
    seed: int = 0,
) -> Batch:
    """Return a batch of noise images with `objects` objects each and all labels."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, size / 2, (images, slots, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(8, size / 2, corners.shape)], -1)
    raw = {
        "gender": "female",
        "smile": "slight",
        "age": 30,
        "head": [20, -10, 5],
        "face": [(10, 12, 2), (30, 14, 1)],
    }
    labels = {}
    for attribute in ATTRIBUTES:
        values, known = attribute.parse(raw[attribute.name])
        labels[attribute.name] = AttributeLabels(
            np.tile(values, (images, slots, 1)), np.tile(known, (images, slots, 1))
        )
    valid = np.tile(np.arange(slots) < objects, (images, 1))
    return Batch(
        images=rng.integers(0, 256, (images, size, size, channels), np.uint8),
        sizes=np.full((images, 2), size, np.float32),
        valid=np.ones(images, bool),
        exhaustive=np.ones(images, bool),
        index=np.arange(images, dtype=np.int32),
        gt=GroundTruth(
            boxes=boxes.astype(np.float32),
            classes=rng.integers(1, num_classes, (images, slots)).astype(np.int32),
            valid=valid,
            masks=rng.integers(0, 256, (images, slots, side, side), np.uint8),
            mask_valid=np.ones_like(valid),
            ignored=np.zeros((images, 0, 4), np.float32),
            attributes=labels,
        ),
    )


class Compiled(NamedTuple):
    """A model with variables and its functions, which are compiled once per batch shape."""

    model: Model
    variables: Variables
    loss: Callable[..., Any]  # variables, batch, key -> total, terms, statistics
    predict: Callable[..., Any]  # variables, batch -> detections


def compile_model(model: Model, batch: Batch, parts: int = 1) -> Compiled:
    variables = draw_variables(jax.eval_shape(model.init, jax.random.key(0), batch.inputs))

    def predict(variables: Variables, batch: Batch) -> Detections:
        return model.predict(variables, batch.inputs)

    return Compiled(model, variables, jax.jit(make_loss(model, parts)), jax.jit(predict))


OUTPUTS = ("objectness", "deltas", "logits", "_output")  # layers with outputs near 0


def draw_variables(shapes: Variables, seed: int = 0, trained: bool = False) -> Variables:
    """Draw random variables. Kernels preserve the scale of activations; those of outputs are small.

    Norms and biases are identities. With `trained` they are random, and outputs are large.
    Compiling a model's own initialization would take longer than most tests.
    """
    rng = np.random.default_rng(seed)

    def draw(path: Any, leaf: Any) -> jax.Array:
        kind, shape = path[-1].key, leaf.shape
        if kind.endswith(("kernel", "shares")):
            small = not trained and path[-2].key.endswith(OUTPUTS)
            spread = 0.01 if small else np.sqrt((1 + trained) / max(1, np.prod(shape[:-1])))
            drawn = rng.normal(0, spread, shape)
        elif kind in ("scale", "var"):
            drawn = rng.uniform(0.5, 1.5, shape) if trained else np.ones(shape)
        else:
            drawn = rng.normal(0, 0.1, shape) if trained else np.zeros(shape)
        return jax.numpy.asarray(drawn, leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes)
