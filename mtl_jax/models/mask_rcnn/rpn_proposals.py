"""The RPN of a Mask R-CNN as a finder of regions for another model."""

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
    """Give the function that finds the `count` best proposals of a network (as `mask_rcnn` builds
    it) on a batch, fewer where its `rpn.post_nms` is, by falling score.

    Jitted, it runs no head.
    """
    network = Network(options, num_classes, tuple(attributes), False, train=False)

    def find(variables: Variables, inputs: Inputs) -> Proposals:
        steps = cast(Steps, network.apply(variables, inputs, method="steps"))
        boxes, valid = (x[:, :count] for x in steps.proposals)
        valid &= inputs.valid[:, None]
        boxes = boxes + FAR_EDGES * options.inclusive_boxes
        return Proposals(jnp.where(valid[..., None], boxes, 0.0), valid)

    return find
