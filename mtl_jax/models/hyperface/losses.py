"""Outputs and losses of HyperFace, which processes one region at a time.

Landmarks have two heads, for positions and for visibility, as in the paper. The other kinds of
attributes use `attribute_heads`.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from mtl_jax import losses
from mtl_jax.attributes.base import Attribute
from mtl_jax.attributes.landmarks import Landmarks
from mtl_jax.config.options.hyperface import HyperFaceOptions
from mtl_jax.models.attribute_heads.base import SMOOTH_L1_BETA
from mtl_jax.models.attribute_heads.heads import head_of
from mtl_jax.models.attribute_heads.landmarks import relative_places
from mtl_jax.types import Array, AttributeLabels, Batch, Term

CLASS = "class_logits"
VISIBLE = 0.5  # minimum probability of a visible point


def output_sizes(
    attributes: Sequence[Attribute], num_classes: int, detection: bool
) -> dict[str, int]:
    """Return the number of outputs of each output layer by its name."""
    sizes = {CLASS: num_classes} if detection else {}
    for attribute in attributes:
        size = head_of(attribute).output_size
        if attribute.point_names:
            sizes[visibility_layer(attribute)] = size // 3
            size = size * 2 // 3
        sizes[place_layer(attribute)] = size
    return sizes


def one_score_layers(attributes: Sequence[Attribute]) -> tuple[str, ...]:
    """Return the names of the output layers whose outputs share one score."""
    return tuple(place_layer(a) for a in attributes if head_of(a).has_one_score)


def place_layer(attribute: Attribute) -> str:
    """Return the name of an attribute's output layer; for landmarks, that of their positions."""
    return f"{attribute.name}_output"


def visibility_layer(attribute: Attribute) -> str:
    """Return the name of the output layer of the visibility of landmarks."""
    return f"visible_{attribute.name}_output"


def attribute_outputs(
    attribute: Attribute, outputs: Mapping[str, Float[Array, "R _"]]
) -> Float[Array, "R O"]:
    """Return an attribute's outputs in the layout of `attribute_heads`: for landmarks, x, y and
    visible of each point.
    """
    places = outputs[place_layer(attribute)]
    if not attribute.point_names:
        return places
    visible = outputs[visibility_layer(attribute)]
    points = places.reshape(*visible.shape, 2)
    return jnp.concatenate([points, visible[..., None]], -1).reshape(len(places), -1)


def region_losses(
    outputs: Mapping[str, Float[Array, "R _"]],
    batch: Batch,
    attributes: Sequence[Attribute],
    options: HyperFaceOptions,
) -> dict[str, Term]:
    """Return every loss term, unweighted, of a batch of regions from `ground_truth.clean`.

    The first slot describes the region; if it is not valid, the region is background. Regions that
    are not exhaustive are excluded from the classification loss.
    """
    terms: dict[str, Term] = {}
    if CLASS in outputs:
        classes = jnp.where(batch.gt.valid[:, 0], batch.gt.classes[:, 0], 0)
        each = losses.cross_entropy(outputs[CLASS], classes)
        terms[CLASS] = (losses.masked_sum(each, batch.valid & batch.exhaustive),)
    frames = _frames(len(batch.valid), options.input_size)
    for attribute in attributes:
        labels = AttributeLabels(*(x[:, 0] for x in batch.gt.attributes[attribute.name]))
        found = attribute_outputs(attribute, outputs)
        name = f"attribute/{attribute.name}"
        if attribute.point_names:
            place, visibility = _landmark_losses(
                attribute, found, labels, frames, options.hidden_points
            )
            terms |= {name: place, f"visibility/{attribute.name}": visibility}
        else:
            terms[name] = head_of(attribute).loss(found, *labels, frames)
    return terms


def _landmark_losses(
    attribute: Attribute,
    outputs: Float[Array, "R O"],
    labels: AttributeLabels,
    frames: Float[Array, "R 4"],
    hidden: bool,
) -> tuple[Term, Term]:
    """Return the loss of the positions of visible points (of all known points if `hidden`), and the
    squared error of the probability of being visible. Source: HyperFace, equations 2 and 3.

    The paper's visibility is an unbounded number; here it is a probability.
    """
    rows = (len(outputs), len(attribute.point_names), 3)
    points, truth, known = (x.reshape(rows) for x in (outputs, *labels))
    truth = jnp.where(known, truth, 0.0)
    targets = relative_places(truth[..., :2], frames)
    each = losses.regression(attribute.loss, points[..., :2], targets, SMOOTH_L1_BETA)
    shown = known[..., :2] & _learnt_points(truth, known, hidden)[..., None]
    visible = (jax.nn.sigmoid(points[..., 2]) - truth[..., 2]) ** 2
    return (
        (losses.masked_sum(each, shown),),
        (losses.masked_sum(visible, known[..., 2]),),
    )


def found_points(
    attribute: Landmarks, outputs: Mapping[str, Float[Array, "R _"]], side: int
) -> Float[Array, "R J 3"]:
    """Return the predicted landmarks (x, y, visible) of regions of `side` pixels, in pixels."""
    found = attribute_outputs(attribute, outputs)
    head, frames = head_of(attribute), _frames(len(found), side)
    return head.place(head.decode(found, frames), frames).reshape(len(found), -1, 3)


def placed_points(found: Float[Array, "R J 3"], hidden: bool) -> Bool[Array, "R J"]:
    """Return which predicted landmarks to use: the visible ones, or all if `hidden`."""
    return (found[..., 2] >= VISIBLE) | hidden


def _frames(count: int, side: int) -> Float[Array, "R 4"]:
    return jnp.tile(jnp.array([[0.0, 0.0, side, side]]), (count, 1))


def _learnt_points(
    truth: Float[Array, "R J 3"], known: Bool[Array, "R J 3"], hidden: bool
) -> Bool[Array, "R J"]:
    """Return which points' positions are trained: the known ones not annotated as hidden, or all
    known ones if `hidden`.
    """
    is_hidden = known[..., 2] & (truth[..., 2] < 0.5)
    return known[..., :2].all(-1) & (hidden | ~is_hidden)
