"""Outputs of our network by stage, as NumPy arrays, to compare with `torchvision_side`."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict

from mtl_jax.config.options.mask_rcnn import MaskRCNNOptions
from mtl_jax.layers.fpn import Fpn
from mtl_jax.models.mask_rcnn.network import Network, mask_rcnn
from mtl_jax.training.stages import frozen_norms
from mtl_jax.training.step import make_loss
from mtl_jax.types import Batch, Inputs

# Anchors and regions per image are sampled exhaustively; proposals per level and per image are few,
# to make training fast.
ANCHORS, REGIONS, PRE_NMS, POST_NMS = 60_000, 600, 400, 100


class Inside(NamedTuple):
    levels: tuple[np.ndarray, ...]  # of the pyramid
    proposals: list[np.ndarray]  # of each image


def look_inside(
    options: MaskRCNNOptions, classes: int, variables: dict[str, Any], batch: Batch
) -> Inside:
    """Return the pyramid and the proposals of a network; `classes` include the background."""
    network = Network(options, classes, (), False, train=False)

    def look(variables: dict[str, Any], inputs: Inputs):
        def is_pyramid(module: nn.Module, method: str) -> bool:
            return isinstance(module, Fpn)

        steps, state = network.apply(
            variables, inputs, method="steps", capture_intermediates=is_pyramid
        )
        (levels,) = state["intermediates"]["fpn"]["__call__"]
        return levels, steps.proposals

    levels, proposals = jax.device_get(jax.jit(look)(variables, batch.inputs))
    return Inside(levels, [boxes[valid] for boxes, valid in zip(*proposals, strict=True)])


def differentiate(
    options: MaskRCNNOptions, classes: int, variables: dict[str, Any], batch: Batch
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Return the loss terms, and their sum's gradient by path, sampled as in `torchvision_side`."""
    options = replace(
        options,
        rpn=replace(options.rpn, pre_nms_train=PRE_NMS, post_nms_train=POST_NMS, samples=ANCHORS),
        roi=replace(options.roi, samples=REGIONS),
    )
    loss = make_loss(mask_rcnn(options, classes, (), full_size_masks=True))
    params, stats = variables["params"], variables["batch_stats"]
    frozen = frozen_norms(stats, jax.tree.map(lambda _: False, params))

    def total(params: Any) -> Any:
        full = {"params": params, "batch_stats": stats, "frozen": frozen}
        value, terms, _ = loss(full, batch, jax.random.key(0))
        return value, terms

    gradients, terms = jax.jit(jax.grad(total, has_aux=True))(params)
    flat = flatten_dict({"params": jax.device_get(gradients)}, sep="/")
    return {name: float(value) for name, value in terms.items()}, flat


def part(tree: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """Concatenate all parameters of a part of the network."""
    paths = sorted(path for path in tree if path.startswith(f"params/{name}/"))
    return np.concatenate([np.ravel(tree[path]) for path in paths])


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Return |one - other| / |other|."""
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))
