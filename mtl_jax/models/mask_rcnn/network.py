"""Multi-task Mask R-CNN: network, loss terms and prediction.

Source: He et al., Mask R-CNN, 2017; the attribute branch after Mirzaee Bafti et al., Cross-Domain
Multitask Model for Head Detection and Facial Attribute Estimation, 2022.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from mtl_jax import losses
from mtl_jax.attributes.base import Attribute
from mtl_jax.config.options.mask_rcnn import MaskRCNNOptions
from mtl_jax.layers.attribute_head import AttributeHead
from mtl_jax.layers.fpn import Fpn
from mtl_jax.layers.roi_heads import BoxHead, MaskHead
from mtl_jax.layers.rpn import RpnHead
from mtl_jax.models.attribute_heads.heads import head_of
from mtl_jax.models.backbones import make_backbone, pyramid_strides
from mtl_jax.models.ground_truth import clean, dropout_key, image_keys, places
from mtl_jax.models.mask_rcnn.losses import box_losses, loss_weights, rpn_losses
from mtl_jax.models.mask_rcnn.pooling import pool_regions
from mtl_jax.models.mask_rcnn.proposals import (
    Anchors,
    Selected,
    Steps,
    image_anchors,
    propose,
    select_detections,
)
from mtl_jax.models.mask_rcnn.targets import RegionTargets, sample_batch_anchors, sample_regions
from mtl_jax.models.padding import Pyramid, is_inside, normalize, outline
from mtl_jax.models.tta import Described, View, detect_in_views, merge_by_nms
from mtl_jax.ops.boxes import FAR_EDGES
from mtl_jax.ops.masks import mask_targets
from mtl_jax.ops.static_sizes import run_smallest
from mtl_jax.types import (
    Array,
    Batch,
    Detections,
    GroundTruth,
    Inputs,
    Model,
    Proposals,
    Term,
    Variables,
)

# The mask and attribute heads run on an eighth or a quarter of their rows if that is enough. Each
# size is a separately compiled copy of the heads, which only saves time with LEAST_ROWS or more.
ROW_PARTS, LEAST_ROWS = (8, 4, 1), 4


def mask_rcnn(
    options: MaskRCNNOptions,
    num_classes: int,
    attributes: Sequence[Attribute] = (),
    full_size_masks: bool = False,
    views: Sequence[View] = (View(),),
) -> Model:
    """Build the model for K = `num_classes` classes, background included.

    With `full_size_masks` the ground truth's masks cover the padded image, otherwise each covers
    its box. Images are predicted in all `views`, and must have the largest of their scales.
    """
    make = partial(Network, options, num_classes, tuple(attributes), full_size_masks)

    def init(key: Array, inputs: Inputs) -> Variables:
        variables = make(train=False).init({"params": key, "dropout": key}, inputs)
        return {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}

    def terms(
        variables: Variables, batch: Batch, key: Array, train: bool
    ) -> tuple[dict[str, Term], Variables]:
        sample_key, key = jax.random.split(key)
        applied = make(train=train).apply(
            variables,
            clean(batch),
            sample_key,
            method="losses",
            mutable=["batch_stats"],
            rngs={"dropout": dropout_key(key, batch)},
        )
        terms, updates = cast(tuple[dict[str, Term], Variables], applied)
        return terms, updates.get("batch_stats", {})

    far_edges = FAR_EDGES * options.inclusive_boxes

    def predict(variables: Variables, inputs: Inputs) -> Detections:
        run: Any = partial(make(train=False).apply, variables)
        found, described = detect_in_views(
            views,
            inputs,
            partial(run, method="find"),
            partial(run, method="describe"),
            partial(merge_by_nms, options=options.detection),
            attributes,
        )
        predictions = {
            a.name: jax.vmap(head_of(a).place)(
                described.attributes[a.name], found.boxes - far_edges
            )
            for a in attributes
        }
        boxes = jnp.where(found.valid[..., None], found.boxes, 0.0)
        return Detections(
            boxes, found.scores, found.classes, found.valid, described.masks, predictions
        )

    weights, shared = loss_weights(options, attributes), r"(^|/)(backbone|fpn)/"
    return Model(init, terms, predict, weights, shared)


class Network(nn.Module):
    """Backbone, pyramid, proposals and heads.

    `losses` is the method for training; `find` and `describe` are those for prediction.
    """

    options: MaskRCNNOptions
    num_classes: int
    attributes: tuple[Attribute, ...]
    full_size_masks: bool
    train: bool

    def setup(self) -> None:
        o, a = self.options, self.options.attribute_head
        common: dict[str, Any] = {"train": self.train, "dtype": jnp.dtype(o.dtype)}
        self.backbone = make_backbone(o.backbone, **common)
        common["norm_eps"] = o.backbone.norm_eps
        self.fpn = Fpn(channels=o.fpn.channels, norm=o.fpn.norm, **common)
        self.rpn = RpnHead(
            anchors_per_cell=o.rpn.anchors_per_cell,
            convs=o.rpn.convs,
            channels=o.rpn.channels,
            dtype=common["dtype"],
        )
        self.box_head = BoxHead(
            num_classes=self.num_classes,
            convs=o.box_head.convs,
            conv_channels=o.box_head.conv_channels,
            fcs=o.box_head.fcs,
            fc_features=o.box_head.fc_features,
            norm=o.box_head.norm,
            **common,
        )
        if o.mask_head.enabled:
            self.mask_head = MaskHead(
                num_classes=self.num_classes,
                convs=o.mask_head.convs,
                channels=o.mask_head.channels,
                norm=o.mask_head.norm,
                **common,
            )
        heads = {a.name: head_of(a) for a in self.attributes}
        dense = {name: head.make_layers(common["dtype"]) for name, head in heads.items()}
        self.dense_head = {name: layers for name, layers in dense.items() if layers is not None}
        vectors = [name for name in heads if name not in self.dense_head]
        self.attribute_head = AttributeHead(
            outputs={name: heads[name].output_size for name in vectors},
            one_score=[name for name in vectors if heads[name].has_one_score],
            wide=a.wide,
            convs=a.convs,
            channels=a.channels,
            features=a.features,
            dropout=a.dropout,
            norm=a.norm,
            **common,
        )

    def __call__(self, inputs: Inputs) -> Described:
        """Find boxes and describe them, which uses every parameter."""
        pyramid, found = self.find(inputs)
        return self.describe(pyramid, found.boxes, found.classes, found.valid)

    def find(self, inputs: Inputs) -> tuple[Pyramid, Selected]:
        """Return the feature pyramid, and the boxes and classes of the objects found."""
        pyramid = self._pyramid(inputs)
        found = self._steps(pyramid, inputs).selected
        return pyramid, found._replace(boxes=found.boxes + self._far_edges)

    def describe(
        self,
        pyramid: Pyramid,
        boxes: Float[Array, "B D 4"],
        classes: Int[Array, "B D"],
        valid: Bool[Array, "B D"],
    ) -> Described:
        """Return the masks and attributes of the objects in boxes."""
        boxes = boxes - self._far_edges
        masks = self._masks(pyramid, boxes, classes, valid)
        outputs = self._attribute_outputs(pyramid, boxes, valid)
        rows = boxes.shape[:2]
        # Decode all rows at once: under `vmap`, heatmaps would be decoded at every static size.
        predictions = {
            a.name: head_of(a)
            .decode(outputs[a.name].reshape(-1, *outputs[a.name].shape[2:]), boxes.reshape(-1, 4))
            .reshape(*rows, -1)
            for a in self.attributes
        }
        return Described(None if masks is None else jax.nn.sigmoid(masks), predictions)

    def steps(self, inputs: Inputs) -> Steps:
        """Return every intermediate result on the way to the boxes."""
        return self._steps(self._pyramid(inputs), inputs)

    def _steps(self, pyramid: Pyramid, inputs: Inputs) -> Steps:
        o, sizes = self.options, self._sizes(inputs)
        proposals, rpn_logits, rpn_deltas, anchors = self._proposals(pyramid, sizes)
        logits, deltas = self._heads(
            self.box_head, pyramid, proposals.boxes, proposals.valid, o.box_head.pool_size
        )
        select = partial(select_detections, box_options=o.box_head, options=o.detection)
        selected: Selected = jax.vmap(select)(logits, deltas, proposals, sizes)
        return Steps(anchors, rpn_logits, rpn_deltas, proposals, logits, deltas, selected)

    def losses(self, batch: Batch, key: Array) -> dict[str, Term]:
        """Return every loss term, unweighted, of a batch from `ground_truth.clean`."""
        o, inputs = self.options, batch.inputs
        # Each image has its own keys, so that its samples do not depend on the others.
        rpn_keys, roi_keys = (image_keys(k, places(batch)) for k in jax.random.split(key))
        gt = batch.gt._replace(boxes=batch.gt.boxes - self._far_edges)
        negatives_allowed = batch.valid & batch.exhaustive
        pyramid = self._pyramid(inputs)
        proposals, logits, deltas, anchors = self._proposals(pyramid, self._sizes(inputs))
        # Objects of a class that is not labelled must not be background of the RPN.
        all_labelled = True if batch.labelled is None else batch.labelled.all(1)
        complete = negatives_allowed & all_labelled
        anchor_targets = sample_batch_anchors(rpn_keys, anchors, gt, complete, o.rpn)
        terms = rpn_losses(logits, deltas, anchor_targets, o.rpn.smooth_l1_beta)
        sampler = partial(sample_regions, options=o.roi, box_weights=o.box_head.box_weights)
        regions: RegionTargets = jax.lax.stop_gradient(
            jax.vmap(sampler)(roi_keys, proposals, gt, negatives_allowed)
        )
        logits, deltas = self._heads(
            self.box_head, pyramid, regions.boxes, regions.valid, o.box_head.pool_size
        )
        terms |= box_losses(logits, deltas, regions, o.box_head.smooth_l1_beta, batch.labelled)
        # Positives come first among the samples: the other heads need only as many rows as there
        # can be positives.
        rows = int(o.roi.samples * o.roi.positive_fraction)
        positives = jax.tree.map(lambda x: x[:, :rows], regions)
        padded = batch.images.shape[1:3]
        return (
            terms
            | self._mask_loss(pyramid, positives, gt, padded)
            | self._attribute_losses(pyramid, positives, gt)
        )

    def _pyramid(self, inputs: Inputs) -> Pyramid:
        o, padded = self.options, inputs.images.shape[1:3]
        empty = outline(inputs, o.size_divisible, pyramid_strides(self.backbone))
        inside = is_inside(empty.extent, inputs.valid, padded)
        features = self.backbone(normalize(inputs, o.pixel_mean, o.pixel_std), inside)
        return empty._replace(levels=self.fpn(features, empty.inside[:-1]))

    @property
    def _far_edges(self) -> np.ndarray:
        """The difference between boxes and the network's own boxes: 0 unless `inclusive_boxes`."""
        return FAR_EDGES * self.options.inclusive_boxes

    def _sizes(self, inputs: Inputs) -> Float[Array, "B 2"]:
        """Return the sizes that boxes of the network are clipped to."""
        return jnp.maximum(inputs.sizes - 1, 0) if self.options.inclusive_boxes else inputs.sizes

    def _proposals(
        self, pyramid: Pyramid, sizes: Float[Array, "B 2"]
    ) -> tuple[Proposals, Float[Array, "B N"], Float[Array, "B N 4"], Anchors]:
        anchors = jax.vmap(partial(image_anchors, options=self.options.rpn))(pyramid)
        anchors = anchors._replace(boxes=anchors.boxes - self._far_edges)
        logits, deltas = self.rpn(pyramid.levels, pyramid.inside)
        shapes = [level.shape[1:3] for level in pyramid.levels]
        level_sizes = [math.prod(shape) * self.options.rpn.anchors_per_cell for shape in shapes]
        proposer = partial(
            propose, level_sizes=level_sizes, options=self.options.rpn, train=self.train
        )
        # The gradients of the heads must not reach the RPN through the proposals.
        fixed = jax.lax.stop_gradient((logits, deltas))
        proposals = jax.vmap(proposer)(*fixed, anchors, sizes)
        return proposals, logits, deltas, anchors

    def _heads(
        self,
        head: nn.Module,
        pyramid: Pyramid,
        boxes: Float[Array, "B R 4"],
        valid: Bool[Array, "B R"],
        pool_size: int,
        *inputs: Array,
    ):
        """Pool `boxes`, run `head` on the regions of all images at once, and return its outputs by
        image.
        """
        batch, rows = valid.shape
        strides = self.backbone.strides
        pooled = pool_regions(pyramid, boxes, pool_size, strides, self.options)
        flat = [x.reshape(batch * rows, *x.shape[2:]) for x in (pooled, *inputs, valid)]
        return jax.tree.map(lambda y: y.reshape(batch, rows, *y.shape[1:]), head(*flat))

    def _first_heads(
        self,
        head: nn.Module,
        pyramid: Pyramid,
        boxes: Float[Array, "B R 4"],
        valid: Bool[Array, "B R"],
        pool_size: int,
        *inputs: Array,
    ):
        """Run `_heads` on the smallest of a few numbers of rows that includes all valid ones.

        Valid rows must come first. The outputs of rows that are not valid are 0.
        """
        rows = valid.shape[1]
        parts = [part for part in ROW_PARTS if part == 1 or rows >= LEAST_ROWS * part]
        counts = sorted({-(-rows // part) for part in parts})

        def run(count: int, head: nn.Module):
            cut_boxes, cut_valid, *cut = (x[:, :count] for x in (boxes, valid, *inputs))
            outputs = self._heads(head, pyramid, cut_boxes, cut_valid, pool_size, *cut)
            return jax.tree.map(partial(_fill_up, valid), outputs)

        if self.is_initializing():
            return run(rows, head)
        return run_smallest(jnp.max(jnp.sum(valid, 1)), counts, run, head, switch=nn.switch)

    def _masks(
        self,
        pyramid: Pyramid,
        boxes: Float[Array, "B R 4"],
        classes: Int[Array, "B R"],
        valid: Bool[Array, "B R"],
    ) -> Float[Array, "B R S S"] | None:
        if not self.options.mask_head.enabled:
            return None
        size = self.options.mask_head.pool_size
        return self._first_heads(self.mask_head, pyramid, boxes, valid, size, classes)

    def _attribute_outputs(
        self, pyramid: Pyramid, boxes: Float[Array, "B R 4"], valid: Bool[Array, "B R"]
    ) -> dict[str, Float[Array, "B R *O"]]:
        size = self.options.attribute_head.pool_size
        outputs = {
            name: self._first_heads(head, pyramid, boxes, valid, size)
            for name, head in self.dense_head.items()
        }
        if len(outputs) < len(self.attributes):
            outputs |= self._first_heads(self.attribute_head, pyramid, boxes, valid, size)
        return outputs

    def _mask_loss(
        self, pyramid: Pyramid, regions: RegionTargets, gt: GroundTruth, padded: tuple[int, int]
    ) -> dict[str, Term]:
        logits = self._masks(pyramid, regions.boxes, regions.classes, regions.positive)
        if logits is None:
            return {}
        height, width = padded
        whole = np.array([0.0, 0.0, width, height], np.float32) - self._far_edges
        frames = jnp.broadcast_to(whole, gt.boxes.shape) if self.full_size_masks else gt.boxes
        aligned = self.options.aligned_masks
        targets = jax.vmap(partial(mask_targets, side=logits.shape[-1], aligned=aligned))(
            gt.masks, frames, regions.boxes, regions.gt_index
        )
        known = regions.positive & jnp.take_along_axis(gt.mask_valid, regions.gt_index, 1)
        each = losses.binary_cross_entropy(logits, targets)
        return {"mask": (losses.masked_sum(each, known),)}

    def _attribute_losses(
        self, pyramid: Pyramid, regions: RegionTargets, gt: GroundTruth
    ) -> dict[str, Term]:
        outputs = self._attribute_outputs(pyramid, regions.boxes, regions.positive)
        terms = {}
        for attribute in self.attributes:
            values, known = (
                jnp.take_along_axis(x, regions.gt_index[..., None], 1)
                for x in gt.attributes[attribute.name]
            )
            known &= regions.positive[..., None]
            flat = [
                x.reshape(-1, *x.shape[2:])
                for x in (outputs[attribute.name], values, known, regions.boxes)
            ]
            terms[f"attribute/{attribute.name}"] = head_of(attribute).loss(*flat)
        return terms


def _fill_up(valid: Bool[Array, "B R"], outputs: Float[Array, "B r *S"]) -> Float[Array, "B R *S"]:
    """Add rows of zeros up to those of `valid`, and zero the rows where it is False."""
    rest = ((0, 0), (0, valid.shape[1] - outputs.shape[1]))
    trailing = outputs.ndim - 2
    outputs = jnp.pad(outputs, (*rest, *((0, 0),) * trailing))
    return jnp.where(valid.reshape(*valid.shape, *(1,) * trailing), outputs, 0.0)
