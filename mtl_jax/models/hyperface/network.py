"""HyperFace: detection and attributes of faces, one region of an image at a time.

Source: Ranjan et al., HyperFace: A Deep Multi-task Learning Framework for Face Detection, Landmark
Localization, Pose Estimation, and Gender Recognition, 2016 (https://arxiv.org/abs/1603.01249).
In training, the input pipeline crops the regions; in prediction, the model crops them from the
padded image.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from mtl_jax.attributes.base import Attribute
from mtl_jax.attributes.landmarks import Landmarks, first_landmarks
from mtl_jax.config.options.hyperface import HyperFaceOptions
from mtl_jax.errors import UserError
from mtl_jax.layers.alexnet import AlexNet, AlexNetFusion
from mtl_jax.layers.hyperface_heads import RegionHeads
from mtl_jax.layers.resnet_fusion import ResNetFusion
from mtl_jax.models.backbones import make_backbone
from mtl_jax.models.ground_truth import clean, dropout_key
from mtl_jax.models.hyperface.face_rectangle import first_rectangle, follow, rectangle_of
from mtl_jax.models.hyperface.face_search import RunNetwork, Search
from mtl_jax.models.hyperface.losses import (
    CLASS,
    found_points,
    one_score_layers,
    output_sizes,
    region_losses,
)
from mtl_jax.models.padding import normalize
from mtl_jax.types import Array, Batch, Detections, Inputs, Model, Proposals, Term, Variables


def hyperface(
    options: HyperFaceOptions,
    num_classes: int,
    attributes: Sequence[Attribute] = (),
) -> Model:
    """Build the model for K = `num_classes` classes, background included.

    `terms` requires batches of square regions of `options.input_size` pixels; the ground truth's
    first slot describes the region. Raises UserError if the landmarks do not match the template.
    """
    attributes = tuple(attributes)
    points = _pointed(attributes, options)
    make = partial(Network, options, num_classes, attributes)

    def init(key: Array, inputs: Inputs) -> Variables:
        side = options.input_size
        regions = jnp.zeros((1, side, side, inputs.images.shape[-1]))
        variables: Any = make(train=False).init(key, regions, jnp.ones(1, bool))
        stats = variables.get("batch_stats", {})
        if points is not None:
            stats = {**stats, **first_rectangle(options)}
        return {"params": variables["params"], "batch_stats": stats}

    def terms(
        variables: Variables, batch: Batch, key: Array, train: bool
    ) -> tuple[dict[str, Term], Variables]:
        side = options.input_size
        if batch.images.shape[1:3] != (side, side):
            raise ValueError(f"expected regions of {side} x {side}, got {batch.images.shape}")
        batch = clean(batch)
        regions = normalize(batch.inputs, options.pixel_mean, options.pixel_std)
        applied = make(train=train).apply(
            variables,
            regions,
            batch.valid,
            mutable=["batch_stats"],
            rngs={"dropout": dropout_key(key, batch)},
        )
        outputs, updates = cast(tuple[dict[str, Array], Variables], applied)
        stats = updates.get("batch_stats", {})
        if points is not None and train:
            seen = outputs
            if options.dropout:  # without dropout, as in prediction, landmarks are less noisy
                seen = cast(dict, make(train=False).apply(variables, regions, batch.valid))
            found = found_points(points, seen, side)
            stats = {**stats, **follow(variables["batch_stats"], found, batch, options)}
        return region_losses(outputs, batch, attributes, options), stats

    def predict(variables: Variables, inputs: Inputs) -> Detections:
        run_network = cast(RunNetwork, partial(make(train=False).apply, variables))
        rectangle = None if points is None else rectangle_of(variables)
        search = partial(Search, run_network, attributes, points, options, rectangle)
        kind, proposals = options.detection.proposals, inputs.proposals
        if kind == "windows":
            proposals = None
        elif proposals is None and options.detection.enabled:
            raise UserError(
                f"config.model.detection.proposals is {kind!r}, but the inputs have no proposals; "
                "set --config.model.detection.proposals=windows to predict without them"
            )

        def find(image: tuple[Array, Array, Proposals | None]) -> Detections:
            return search(*image).run()

        images = normalize(inputs, options.pixel_mean, options.pixel_std)
        found = jax.lax.map(find, (images, inputs.sizes, proposals))
        return found._replace(valid=found.valid & inputs.valid[:, None])

    shared = r"(^|/)(backbone|fusion|(fused_)?heads/fc\d+)/"
    return Model(init, terms, predict, loss_weights(options, attributes), shared)


def loss_weights(options: HyperFaceOptions, attributes: Sequence[Attribute]) -> dict[str, float]:
    """Return the weight of each loss term by its name."""
    weights = {CLASS: options.loss_weights.detection} if options.detection.enabled else {}
    for attribute in attributes:
        weights[f"attribute/{attribute.name}"] = attribute.weight
        if attribute.point_names:
            weights[f"visibility/{attribute.name}"] = options.loss_weights.visibility
    return weights


def _pointed(attributes: Sequence[Attribute], options: HyperFaceOptions) -> Landmarks | None:
    """Return the attribute that determines a face's rectangle: the first landmarks."""
    points = first_landmarks(attributes)
    if points is not None and len(points.points) != len(options.template):
        raise UserError(
            f"config.model.template has {len(options.template)} points, but attribute "
            f"{points.name!r} has {len(points.points)}; define one template point for each landmark"
        )
    return points


class Network(nn.Module):
    """The network from regions to all outputs, by the names of `losses.output_sizes`."""

    options: HyperFaceOptions
    num_classes: int
    attributes: tuple[Attribute, ...]
    train: bool

    @nn.compact
    def __call__(
        self, regions: Float[Array, "R s s C"], valid: Bool[Array, "R"]
    ) -> dict[str, Float[Array, "R O"]]:
        o, dtype = self.options, jnp.dtype(self.options.dtype)
        x = regions.astype(dtype)
        trunk = self._alexnet if o.trunk == "alexnet" else self._resnet
        x = trunk(x, valid).reshape(len(x), -1)
        return RegionHeads(
            outputs=output_sizes(self.attributes, self.num_classes, o.detection.enabled),
            one_score=one_score_layers(self.attributes),
            fcs=o.fcs,
            features=o.head_features,
            dropout=o.dropout,
            train=self.train,
            dtype=dtype,
            # The names differ because layers of one name must have one shape, for transfer.
            name="fused_heads" if o.fused else "heads",
        )(x)

    def _alexnet(self, x: Array, valid: Array) -> Array:
        o, a = self.options, self.options.alexnet
        same: dict[str, Any] = {
            "variant": a.variant,
            "width": a.width,
            "train": self.train,
            "dtype": jnp.dtype(o.dtype),
        }
        net = AlexNet(pool2=a.pool2, **same, name="backbone")
        pool1, conv3, pool5 = net(x, valid)
        if not o.fused:
            return pool5
        fusion = AlexNetFusion(channels=o.fused_channels, **same, name="fusion")
        return fusion(pool1, conv3, pool5, valid)

    def _resnet(self, x: Array, valid: Array) -> Array:
        r, train, dtype = self.options.resnet, self.train, jnp.dtype(self.options.dtype)
        net = make_backbone(r, train, dtype, name="backbone")
        inside = jnp.broadcast_to(valid[:, None, None], x.shape[:3])
        stages = net(x, inside)
        fusion = ResNetFusion(
            norm=r.norm, norm_eps=r.norm_eps, train=train, dtype=dtype, name="fusion"
        )
        fused = fusion(stages, valid) if self.options.fused else stages[-1]
        return fused.mean((1, 2)) if self.options.pooled else fused
