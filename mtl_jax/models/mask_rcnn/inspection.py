"""Inspection of a Mask R-CNN: activations of its layers and intermediate results of a batch."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from mtl_jax.attributes.base import Attribute
from mtl_jax.config.options.mask_rcnn import MaskRCNNOptions
from mtl_jax.models.mask_rcnn.network import Network
from mtl_jax.models.mask_rcnn.proposals import Steps
from mtl_jax.types import Inputs, Variables


class Inside(NamedTuple):
    steps: Steps  # NumPy arrays with a leading axis of the batch
    activations: Mapping[str, np.ndarray]  # each layer's output by its path


def inspector(
    options: MaskRCNNOptions, num_classes: int, attributes: Sequence[Attribute]
) -> Callable[[Variables, Inputs], Inside]:
    """Return a function that runs the network of `mask_rcnn` and returns intermediate results.

    A layer that is called for several levels has one output per level, with the level's index at
    the end of its path. Layers that only process detected regions (masks, attributes) are not run.
    """
    network = Network(options, num_classes, tuple(attributes), False, train=False)

    def run(variables: Variables, inputs: Inputs) -> tuple[Steps, Any]:
        applied = network.apply(
            variables, inputs, method="steps", capture_intermediates=True, mutable=["intermediates"]
        )
        steps, state = cast(tuple[Steps, Any], applied)
        return steps, state["intermediates"]

    compiled = jax.jit(run)

    def inspect(variables: Variables, inputs: Inputs) -> Inside:
        steps, intermediates = jax.device_get(compiled(variables, inputs))
        activations = {}
        for path, calls in flatten_dict(intermediates, sep="/").items():
            name = path.removesuffix("/__call__")
            outputs = [np.asarray(x) for x in jax.tree.leaves(calls) if np.ndim(x)]
            for i, output in enumerate(outputs):
                activations[f"{name}/{i}" if len(outputs) > 1 else name] = output
        return Inside(steps, activations)

    return inspect
