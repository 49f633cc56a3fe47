"""The RPN of a Mask R-CNN as a source of proposals for another model."""

from collections.abc import Callable, Sequence
from typing import cast

import jax.numpy as jnp

from mtl_jax.attributes.base import Attribute
from mtl_jax.config.options.mask_rcnn import MaskRCNNOptions
from mtl_jax.models.mask_rcnn.network import Network
from mtl_jax.models.mask_rcnn.proposals import Steps
from mtl_jax.ops.boxes import FAR_EDGES
from mtl_jax.types import Inputs, Proposals, Variables


def rpn_proposals(
    options: MaskRCNNOptions, num_classes: int, attributes: Sequence[Attribute], count: int
) -> Callable[[Variables, Inputs], Proposals]:
    """Return a function that computes the `count` best proposals of the network of `mask_rcnn`.

    They are sorted by descending score. There are fewer if `rpn.post_nms` is smaller than `count`.
    Under `jax.jit`, the heads are not run.
    """
    network = Network(options, num_classes, tuple(attributes), False, train=False)

    def find(variables: Variables, inputs: Inputs) -> Proposals:
        steps = cast(Steps, network.apply(variables, inputs, method="steps"))
        boxes, valid = (x[:, :count] for x in steps.proposals)
        valid &= inputs.valid[:, None]
        boxes = boxes + FAR_EDGES * options.inclusive_boxes
        return Proposals(jnp.where(valid[..., None], boxes, 0.0), valid)

    return find
