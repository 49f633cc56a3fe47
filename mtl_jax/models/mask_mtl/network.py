"""MaskMTL: attributes of a whole image, a face chip, with different degrees of sharing.

Source: MaskMTL, arXiv 2201.03002, and its published code (the hierarchical network). Soft sharing
follows Duong et al., Low Resource Dependency Parsing, 2015: one trunk per task, and a penalty on
the distance of their parameters.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import Any, cast

import flax.linen as nn
import jax.numpy as jnp
from flax.traverse_util import flatten_dict
from jaxtyping import Bool, Float

from mtl_jax.attributes.base import Attribute
from mtl_jax.config.options.mask_mtl import MaskMTLOptions
from mtl_jax.layers.conv_trunk import ConvTrunks
from mtl_jax.layers.image_head import ImageHead
from mtl_jax.layers.output import output_layer
from mtl_jax.models.attribute_heads.heads import head_of
from mtl_jax.models.backbones import Backbone, make_backbone
from mtl_jax.models.ground_truth import clean, dropout_key
from mtl_jax.models.mask_rcnn.proposals import Selected
from mtl_jax.models.padding import is_inside, normalize
from mtl_jax.models.tta import Described, View, detect_in_views
from mtl_jax.types import (
    Array,
    Batch,
    Detections,
    Inputs,
    MaskedSum,
    Model,
    Term,
    Variables,
)

SHARED = "shared"  # name of the trunk shared by all attributes


def mask_mtl(
    options: MaskMTLOptions,
    attributes: Sequence[Attribute],
    views: Sequence[View] = (View(),),
) -> Model:
    """Build the model. Raises ValueError if the options do not match the attributes.

    An image's labels are those of its first object. Each image has one detection of class 1, the
    whole image.
    """
    check(options, attributes)
    make = partial(Network, options, tuple(attributes))
    weights = {f"attribute/{attribute.name}": attribute.weight for attribute in attributes}

    def init(key: Array, inputs: Inputs) -> Variables:
        variables = make(train=False).init({"params": key, "dropout": key}, inputs)
        return {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}

    def terms(
        variables: Variables, batch: Batch, key: Array, train: bool
    ) -> tuple[dict[str, Term], Variables]:
        batch = clean(batch)
        applied = make(train=train).apply(
            variables,
            batch.inputs,
            mutable=["batch_stats"],
            rngs={"dropout": dropout_key(key, batch)},
        )
        outputs, updates = cast(tuple[dict[str, Array], Variables], applied)
        terms = attribute_terms(attributes, outputs, batch)
        if options.sharing == "soft":
            distance = trunk_distance(variables["params"]["backbone"], attributes)
            penalty = options.sharing_weight * distance
            terms["sharing"] = (MaskedSum(penalty, jnp.int32(1)),)
        return terms, updates.get("batch_stats", {})

    def find(inputs: Inputs) -> tuple[Inputs, Selected]:
        valid = inputs.valid[:, None]
        boxes = whole_images(inputs)[:, None]
        found = Selected(boxes, valid.astype(jnp.float32), valid.astype(jnp.int32), valid)
        return inputs, found

    def predict(variables: Variables, inputs: Inputs) -> Detections:
        def describe(shown: Inputs, boxes: Array, classes: Array, valid: Array) -> Described:
            outputs = cast(dict, make(train=False).apply(variables, shown))
            found = {a.name: head_of(a).decode(outputs[a.name], boxes[:, 0]) for a in attributes}
            return Described(None, {name: values[:, None] for name, values in found.items()})

        found, described = detect_in_views(
            views, inputs, find, describe, lambda each: each[0], attributes
        )
        boxes = whole_images(inputs)
        placed = {
            a.name: head_of(a).place(described.attributes[a.name][:, 0], boxes)[:, None]
            for a in attributes
        }
        return Detections(boxes[:, None], *found[1:], None, placed)

    return Model(init, terms, predict, weights, shared_stages(options, attributes))


def exits_of(options: MaskMTLOptions, attributes: Sequence[Attribute]) -> dict[str, int]:
    """Return the trunk stage that each attribute's head is attached to, by attribute."""
    return {a.name: options.stages[-1] for a in attributes} | dict(options.exits)


def shared_stages(options: MaskMTLOptions, attributes: Sequence[Attribute]) -> str:
    """Return a pattern of the paths of the parameters that all attributes share; '' for none."""
    if options.sharing not in ("hard", "cross_stitch"):
        return ""
    last = min(exits_of(options, attributes).values())
    return rf"(^|/)backbone/(stem|stage[1-{last}])/"


def check(options: MaskMTLOptions, attributes: Sequence[Attribute]) -> None:
    """Raise ValueError if the options do not match the attributes."""
    declared = [attribute.name for attribute in attributes]
    if not declared:
        raise ValueError("config.attributes is empty; family 'mask_mtl' requires at least one")
    if unknown := [name for name, _ in options.exits if name not in declared]:
        known = ", ".join(declared)
        raise ValueError(f"config.model.exits names {unknown[0]!r}; expected one of {known}")


def attribute_terms(
    attributes: Sequence[Attribute], outputs: Mapping[str, Float[Array, "B O"]], batch: Batch
) -> dict[str, Term]:
    """Return each attribute's loss, over the labels of the first object of each image."""
    objects = batch.gt.valid
    first = jnp.argmax(objects, 1)[:, None, None]
    terms = {}
    for a in attributes:
        values, known = (
            jnp.take_along_axis(x, first, 1)[:, 0] for x in batch.gt.attributes[a.name]
        )
        known &= objects.any(1)[:, None]
        terms[f"attribute/{a.name}"] = head_of(a).loss(
            outputs[a.name], values, known, whole_images(batch.inputs)
        )
    return terms


def trunk_distance(backbone: Any, attributes: Sequence[Attribute]) -> Float[Array, ""]:
    """Return the squared distance of the trunks' parameters, averaged over the pairs of trunks.

    Only layers that both trunks of a pair have are included.
    """
    flat: dict[tuple[str, ...], Array] = flatten_dict(backbone)
    names = [trunk_name(attribute) for attribute in attributes]
    own = [
        {tuple(k for k in path if k != name): x for path, x in flat.items() if name in path}
        for name in names
    ]
    pairs = list(combinations(own, 2))
    squares = [((a[k] - b[k]) ** 2).sum() for a, b in pairs for k in sorted(a.keys() & b.keys())]
    return sum(squares, jnp.float32(0)) / max(1, len(pairs))


def trunk_name(attribute: Attribute) -> str:
    """Return the name of an attribute's own trunk, which no other layer has."""
    return f"{attribute.name}_trunk"


def whole_images(inputs: Inputs) -> Float[Array, "B 4"]:
    """Return the box of each whole image."""
    return jnp.concatenate([jnp.zeros_like(inputs.sizes), inputs.sizes[:, ::-1]], -1)


class Network(nn.Module):
    """One or more trunks, and for each attribute a head attached to a stage of a trunk."""

    options: MaskMTLOptions
    attributes: tuple[Attribute, ...]
    train: bool

    @nn.compact
    def __call__(self, inputs: Inputs) -> dict[str, Float[Array, "B O"]]:
        """Compute each attribute's outputs, in float32 or wider."""
        o, dtype = self.options, jnp.dtype(self.options.dtype)
        exits = exits_of(o, self.attributes)
        trunk = {a.name: SHARED if o.sharing == "hard" else trunk_name(a) for a in self.attributes}
        depths: dict[str, int] = {}
        for name, stage in exits.items():
            depths[trunk[name]] = max(stage, depths.get(trunk[name], 0))
        images = normalize(inputs, o.pixel_mean, o.pixel_std)
        inside = is_inside(inputs.sizes, inputs.valid, inputs.images.shape[1:3])
        maps = (self._resnets if o.trunk == "resnet" else self._convs)(depths, images, inside)
        outputs, h = {}, o.head
        for a in self.attributes:
            x = maps[trunk[a.name]][exits[a.name] - o.stages[0]]
            stride = 2 ** exits[a.name]
            head = ImageHead(
                pool=h.pool,
                features=h.features,
                dropout=h.dropout,
                train=self.train,
                dtype=dtype,
                name=f"{a.name}_head",
            )
            features = head(x, _cells(inside, stride, x.shape[1:3]))
            features = features.astype(jnp.promote_types(dtype, jnp.float32))
            init = nn.initializers.glorot_uniform()
            size, one_score = head_of(a).output_size, head_of(a).has_one_score
            layer = output_layer(size, one_score, init, f"{a.name}_output")
            outputs[a.name] = layer(features)
        return outputs

    def _convs(
        self,
        depths: Mapping[str, int],
        images: Float[Array, "B H W C"],
        inside: Bool[Array, "B H W"],
    ) -> dict[str, tuple[Array, ...]]:
        c = self.options.convs
        trunks = ConvTrunks(
            depths=depths,
            features=c.features,
            norm=c.norm,
            norm_eps=c.norm_eps,
            norm_momentum=c.norm_momentum,
            non_local=c.non_local,
            stitched=self.options.sharing == "cross_stitch",
            train=self.train,
            dtype=jnp.dtype(self.options.dtype),
            name="backbone",
        )
        return trunks(images, inside.any((1, 2)))

    def _resnets(
        self,
        depths: Mapping[str, int],
        images: Float[Array, "B H W C"],
        inside: Bool[Array, "B H W"],
    ) -> dict[str, tuple[Array, ...]]:
        if list(depths) == [SHARED]:  # named as in other models, to start from their weights
            return {SHARED: _backbone(self.options, self.train, "backbone")(images, inside)}
        return ResNets(self.options, tuple(depths), self.train, name="backbone")(images, inside)


class ResNets(nn.Module):
    """One backbone for each of `names`."""

    options: MaskMTLOptions
    names: tuple[str, ...]
    train: bool

    @nn.compact
    def __call__(
        self, images: Float[Array, "B H W C"], inside: Bool[Array, "B H W"]
    ) -> dict[str, tuple[Float[Array, "B _ _ _"], ...]]:
        return {
            name: _backbone(self.options, self.train, name)(images, inside) for name in self.names
        }


def _backbone(options: MaskMTLOptions, train: bool, name: str) -> Backbone:
    return make_backbone(options.backbone, train, jnp.dtype(options.dtype), name)


def _cells(
    inside: Bool[Array, "B H W"], stride: int, shape: tuple[int, int]
) -> Bool[Array, "B h w"]:
    """Return which cells of a map start inside the image."""
    return inside[:, ::stride, ::stride][:, : shape[0], : shape[1]]
