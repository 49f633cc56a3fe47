"""Multi-task Mask R-CNN: the whole network, its objective and its inference.

Source: He et al., Mask R-CNN, 2017; the attribute branch after Mirzaee Bafti et al., Cross-Domain
Multitask Model for Head Detection and Facial Attribute Estimation, 2022.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from mtl_jax import losses
from mtl_jax.attributes.base import Attribute
from mtl_jax.config.options.evaluation import ViewOptions
from mtl_jax.config.options.mask_rcnn import MaskRCNNOptions
from mtl_jax.layers.fpn import Fpn
from mtl_jax.layers.roi_heads import BoxHead, MaskHead
from mtl_jax.layers.rpn import RpnHead
from mtl_jax.layers.task_heads import AttributeHead
from mtl_jax.models.attribute_heads.heads import head_of
from mtl_jax.models.backbones import make_resnet
from mtl_jax.models.ground_truth import clean, image_keys
from mtl_jax.models.mask_rcnn.losses import box_losses, loss_weights, rpn_losses
from mtl_jax.models.mask_rcnn.pooling import ROI_LEVELS, pool_regions
from mtl_jax.models.mask_rcnn.proposals import (
    Anchors,
    Selected,
    Steps,
    image_anchors,
    propose,
    select_detections,
)
from mtl_jax.models.mask_rcnn.targets import RegionTargets, sample_batch_anchors, sample_regions
from mtl_jax.models.objective import make_loss, make_sums, make_total
from mtl_jax.models.padding import Pyramid, is_inside, normalize, outline
from mtl_jax.models.tta import View, make_views, merge
from mtl_jax.ops.boxes import FAR_EDGES
from mtl_jax.ops.masks import mask_targets
from mtl_jax.types import Array, Batch, Detections, Model, Proposals, Term, Variables

# The mask and attribute heads run on an eighth or a quarter of their rows where that is enough:
# each is a copy of the heads to compile, which pays from a few rows on.
ROW_PARTS, LEAST_ROWS = (8, 4, 1), 4


def mask_rcnn(
    options: MaskRCNNOptions,
    num_classes: int,
    attributes: Sequence[Attribute] = (),
    full_size_masks: bool = False,
    parts: int = 1,
    views: ViewOptions | None = None,
) -> Model:
    """Build the model for K = `num_classes` classes, background included.

    `full_size_masks` says that the ground truth's masks cover the canvas, not each its box. The
    loss of a batch is computed in `parts` parts, one after another. Detection looks at a batch in
    all `views`; the pictures come at the largest of their scales.
    """
    make = partial(Network, options, num_classes, tuple(attributes), full_size_masks)

    def init(key: Array, batch: Batch) -> Variables:
        rngs = {"params": key, "dropout": key}
        variables = make(train=False).init(rngs, batch, method="detect")
        return {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}

    def terms_of(
        train: bool, variables: Variables, batch: Batch, key: Array, places: Int[Array, "B"]
    ) -> tuple[dict[str, Term], Variables]:
        sample_key, dropout_key = jax.random.split(key)
        applied = make(train=train).apply(
            variables,
            clean(batch),
            sample_key,
            places,
            method="losses",
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.fold_in(dropout_key, places[0])},
        )
        terms, updates = cast(tuple[dict[str, Term], Variables], applied)
        return terms, updates.get("batch_stats", {})

    looks = make_views(views or ViewOptions())

    def predict(variables: Variables, batch: Batch) -> Detections:
        return cast(Detections, make(train=False).apply(variables, batch, looks, method="detect"))

    weights = loss_weights(options, attributes)
    total = make_total(weights)
    loss = make_loss(terms_of, total, parts)
    shared = r"(^|/)(backbone|fpn)/"
    return Model(init, loss, make_sums(terms_of), total, predict, weights, shared)


class Network(nn.Module):
    """Backbone, pyramid, proposals and heads; `losses` and `detect` are its two ways through."""

    options: MaskRCNNOptions
    num_classes: int
    attributes: tuple[Attribute, ...]
    full_size_masks: bool
    train: bool

    def setup(self) -> None:
        o, dtype = self.options, jnp.dtype(self.options.dtype)
        b, head = o.backbone, o.attribute_head
        last = (b.norm_eps, self.train, dtype)
        self.backbone = make_resnet(b, self.train, dtype)
        self.fpn = Fpn(o.fpn.channels, o.fpn.norm, *last)
        self.rpn = RpnHead(o.rpn.anchors_per_cell, o.rpn.convs, dtype, o.rpn.channels)
        box = o.box_head
        self.box_head = BoxHead(
            self.num_classes,
            box.convs,
            box.conv_channels,
            box.fcs,
            box.fc_features,
            box.norm,
            *last,
        )
        if o.mask_head.enabled:
            mask = o.mask_head
            self.mask_head = MaskHead(self.num_classes, mask.convs, mask.channels, mask.norm, *last)
        outputs = {a.name: head_of(a).output_size for a in self.attributes}
        self.attribute_head = AttributeHead(
            outputs,
            head.wide,
            head.convs,
            head.channels,
            head.features,
            head.dropout,
            head.norm,
            *last,
            one_score=[a.name for a in self.attributes if head_of(a).has_one_score],
        )

    def detect(self, batch: Batch, views: Sequence[View] = (View(),)) -> Detections:
        """Find things: proposals, then boxes and classes, then masks and attributes of the refined
        boxes. Several views share their boxes; their masks and attributes are averaged.
        """
        looks = [view.look(batch) for view in views]
        pyramids = [self._pyramid(look) for look in looks]
        seen = list(zip(views, looks, pyramids, strict=True))
        each = []
        for view, look, pyramid in seen:
            found = self._steps(pyramid, self._with_own_boxes(look)).selected
            boxes = view.boxes_back(found.boxes + self._far_edges, batch, look)
            each.append(found._replace(boxes=boxes))
        found = merge(each, self.options.detection)
        valid = found.valid & batch.valid[:, None]
        described = [
            self._describe(
                pyramid, view.boxes(found.boxes, batch, look), found.classes, valid, view
            )
            for view, look, pyramid in seen
        ]
        masks = jax.tree.map(lambda *each: sum(each) / len(views), *(m for m, _ in described))
        own = found.boxes - self._far_edges
        predictions = {}
        for a in self.attributes:
            decoded = head_of(a).mean([answers[a.name] for _, answers in described])
            predictions[a.name] = jax.vmap(head_of(a).place)(decoded, own)
        boxes = jnp.where(found.valid[..., None], found.boxes, 0.0)
        return Detections(boxes, found.scores, found.classes, valid, masks, predictions)

    def _describe(
        self,
        pyramid: Pyramid,
        boxes: Float[Array, "B D 4"],
        classes: Int[Array, "B D"],
        valid: Bool[Array, "B D"],
        view: View,
    ) -> tuple[Float[Array, "B D S S"] | None, dict[str, Float[Array, "B D E"]]]:
        """Give the masks of boxes of a view, and what `Head.decode` gives, as they would
        be without its mirroring.
        """
        boxes = boxes - self._far_edges
        masks = self._masks(pyramid, boxes, classes, valid)
        masks = None if masks is None else view.masks_back(jax.nn.sigmoid(masks))
        outputs = self._attribute_outputs(pyramid, boxes, valid)
        predictions = {
            a.name: view.predictions_back(a, jax.vmap(head_of(a).decode)(outputs[a.name]))
            for a in self.attributes
        }
        return masks, predictions

    def steps(self, batch: Batch) -> Steps:
        """Give what stands between a batch and its detections."""
        return self._steps(self._pyramid(batch), self._with_own_boxes(batch))

    def _steps(self, pyramid: Pyramid, batch: Batch) -> Steps:
        proposals, rpn_logits, rpn_deltas, anchors = self._proposals(pyramid, batch)
        logits, deltas = self._heads(
            self.box_head,
            pyramid,
            proposals.boxes,
            proposals.valid,
            self.options.box_head.pool_size,
        )
        select = partial(
            select_detections, box_options=self.options.box_head, options=self.options.detection
        )
        selected: Selected = jax.vmap(select)(logits, deltas, proposals, batch.sizes)
        return Steps(anchors, rpn_logits, rpn_deltas, proposals, logits, deltas, selected)

    def losses(self, batch: Batch, key: Array, places: Int[Array, "B"]) -> dict[str, Term]:
        """Give every loss term, unweighted, over a batch from `targets.clean`.

        `places` number the images in all of the step's batch: an image's samples depend on its own.
        """
        o = self.options
        negatives_allowed = batch.valid & batch.exhaustive
        rpn_keys, roi_keys = (image_keys(k, places) for k in jax.random.split(key))
        pyramid, batch = self._pyramid(batch), self._with_own_boxes(batch)
        proposals, logits, deltas, anchors = self._proposals(pyramid, batch)
        anchor_targets = sample_batch_anchors(rpn_keys, anchors, batch.gt, negatives_allowed, o.rpn)
        terms = rpn_losses(logits, deltas, anchor_targets, o.rpn.smooth_l1_beta)
        sampler = partial(sample_regions, options=o.roi, box_weights=o.box_head.box_weights)
        regions: RegionTargets = jax.lax.stop_gradient(
            jax.vmap(sampler)(roi_keys, proposals, batch.gt, negatives_allowed)
        )
        logits, deltas = self._heads(
            self.box_head, pyramid, regions.boxes, regions.valid, o.box_head.pool_size
        )
        terms |= box_losses(logits, deltas, regions, o.box_head.smooth_l1_beta)
        # Positives come first among the samples: the other heads need only as many rows as there
        # can be positives.
        rows = int(o.roi.samples * o.roi.positive_fraction)
        positives = jax.tree.map(lambda x: x[:, :rows], regions)
        return (
            terms
            | self._mask_loss(pyramid, positives, batch)
            | self._attribute_losses(pyramid, positives, batch)
        )

    def _pyramid(self, batch: Batch) -> Pyramid:
        o, canvas = self.options, batch.images.shape[1:3]
        empty = outline(batch, o.size_divisible)
        inside = is_inside(empty.extent, batch.valid, canvas)
        features = self.backbone(normalize(batch, o.pixel_mean, o.pixel_std), inside)
        return empty._replace(levels=self.fpn(features, empty.inside[:ROI_LEVELS]))

    @property
    def _far_edges(self) -> np.ndarray:
        """What is taken off boxes on their way in, and added on their way out."""
        return FAR_EDGES * self.options.inclusive_boxes

    def _with_own_boxes(self, batch: Batch) -> Batch:
        """Bring the ground truth, and the sizes that boxes are cut to, to the network's boxes."""
        if not self.options.inclusive_boxes:
            return batch
        gt = batch.gt._replace(boxes=batch.gt.boxes - self._far_edges)
        return batch._replace(sizes=jnp.maximum(batch.sizes - 1, 0), gt=gt)

    def _proposals(
        self, pyramid: Pyramid, batch: Batch
    ) -> tuple[Proposals, Float[Array, "B N"], Float[Array, "B N 4"], Anchors]:
        anchors = jax.vmap(partial(image_anchors, options=self.options.rpn))(pyramid)
        anchors = anchors._replace(boxes=anchors.boxes - self._far_edges)
        logits, deltas = self.rpn(pyramid.levels, pyramid.inside)
        shapes = [level.shape[1:3] for level in pyramid.levels]
        level_sizes = [math.prod(shape) * self.options.rpn.anchors_per_cell for shape in shapes]
        proposer = partial(
            propose, level_sizes=level_sizes, options=self.options.rpn, train=self.train
        )
        # Proposals are inputs of the heads, not a way for their gradients into the RPN.
        fixed = jax.lax.stop_gradient((logits, deltas))
        proposals = jax.vmap(proposer)(*fixed, anchors, batch.sizes)
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
        """Pool `boxes`, run `head` on all images' regions at once, and give its outputs back by
        image.
        """
        batch, rows = valid.shape
        pooled = pool_regions(pyramid, boxes, pool_size, self.options)
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
        """Do as `_heads` where the valid rows come first, on no more than the least of a few
        numbers of rows that holds them all. Rows that are not valid give 0.
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
        needed = jnp.max(jnp.sum(valid, 1))
        fitting = jnp.sum(needed > np.array(counts[:-1]))
        return nn.switch(fitting, [partial(run, count) for count in counts], head)

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
    ) -> dict[str, Float[Array, "B R O"]]:
        if not self.attributes:
            return {}
        size = self.options.attribute_head.pool_size
        return self._first_heads(self.attribute_head, pyramid, boxes, valid, size)

    def _mask_loss(self, pyramid: Pyramid, regions: RegionTargets, batch: Batch) -> dict[str, Term]:
        logits = self._masks(pyramid, regions.boxes, regions.classes, regions.positive)
        if logits is None:
            return {}
        gt = batch.gt
        height, width = batch.images.shape[1:3]
        canvas = np.array([0.0, 0.0, width, height], np.float32) - self._far_edges
        canvas = jnp.broadcast_to(canvas, gt.boxes.shape)
        frames = canvas if self.full_size_masks else gt.boxes
        targets = jax.vmap(
            partial(mask_targets, side=logits.shape[-1], aligned=self.options.roi.aligned)
        )(gt.masks, frames, regions.boxes, regions.gt_index)
        known = regions.positive & jnp.take_along_axis(gt.mask_valid, regions.gt_index, 1)
        each = losses.binary_cross_entropy(logits, targets)
        return {"mask": (losses.masked_sum(each, known),)}

    def _attribute_losses(
        self, pyramid: Pyramid, regions: RegionTargets, batch: Batch
    ) -> dict[str, Term]:
        outputs = self._attribute_outputs(pyramid, regions.boxes, regions.positive)
        terms = {}
        for attribute in self.attributes:
            values, known = (
                jnp.take_along_axis(x, regions.gt_index[..., None], 1)
                for x in batch.gt.attributes[attribute.name]
            )
            known &= regions.positive[..., None]
            flat = [
                x.reshape(-1, x.shape[-1])
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
