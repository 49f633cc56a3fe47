"""Proposals of an RPN for another model: its best boxes by descending score."""

from dataclasses import replace

import jax
import numpy as np
from scenes import ATTRIBUTES, TINY, compile_model, random_batch

from mtl_jax.models.mask_rcnn.network import Network, mask_rcnn
from mtl_jax.models.mask_rcnn.rpn_proposals import rpn_proposals
from mtl_jax.ops import boxes as box_ops
from mtl_jax.ops.boxes import FAR_EDGES


def test_the_best_boxes_have_descending_scores():
    options = replace(TINY, inclusive_boxes=True)  # the network's own boxes are 1 pixel smaller
    batch = random_batch()
    batch = batch._replace(valid=np.arange(len(batch.valid)) > 0)
    variables = compile_model(mask_rcnn(options, 3, ATTRIBUTES), batch).variables
    find = jax.jit(rpn_proposals(options, 3, ATTRIBUTES, count=6))
    found = jax.device_get(find(variables, batch.inputs))
    assert found.boxes.shape == (len(batch.valid), 6, 4)
    assert not found.valid[0].any()
    assert found.valid[1:].all()
    network = Network(options, 3, ATTRIBUTES, False, train=False)
    steps = jax.jit(lambda v, b: network.apply(v, b, method="steps"))(variables, batch.inputs)
    for row in range(1, len(batch.valid)):
        height, width = batch.sizes[row] - 1
        decoded = box_ops.decode(
            steps.rpn_deltas[row], steps.anchors.boxes[row], options.rpn.box_weights
        )
        decoded = np.asarray(box_ops.clip(decoded, height, width)) + FAR_EDGES
        apart = np.abs(found.boxes[row][:, None] - decoded).max(-1)
        assert apart.min(1).max() < 1e-3
        scores = np.where(apart < 1e-3, steps.rpn_logits[row], -np.inf).max(1)
        assert (np.diff(scores) <= 0).all()
        best = np.where(steps.anchors.valid[row], steps.rpn_logits[row], -np.inf).max()
        assert scores[0] == best


def test_the_count_is_limited_by_the_networks_proposals():
    options = replace(TINY, rpn=replace(TINY.rpn, post_nms=4))
    batch = random_batch()
    variables = compile_model(mask_rcnn(options, 3, ATTRIBUTES), batch).variables
    found = jax.eval_shape(
        rpn_proposals(options, 3, ATTRIBUTES, count=2000), variables, batch.inputs
    )
    assert found.valid.shape == (len(batch.valid), 4)
