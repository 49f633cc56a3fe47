"""What each task asks of a network that looks at one region at a time, and what it is told.

A landmarks attribute has two heads, of places and of visibility, as HyperFace's. The other kinds
are `attribute_heads`'.
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
VISIBLE = 0.5  # the least probability of a point that is seen


def output_sizes(
    attributes: Sequence[Attribute], num_classes: int, detection: bool
) -> dict[str, int]:
    """Give the width of each output by its layer's name."""
    sizes = {CLASS: num_classes} if detection else {}
    for attribute in attributes:
        size = head_of(attribute).output_size
        if attribute.point_names:
            sizes[visibility_layer(attribute)] = size // 3
            size = size * 2 // 3
        sizes[place_layer(attribute)] = size
    return sizes


def one_score_layers(attributes: Sequence[Attribute]) -> tuple[str, ...]:
    """Name the output layers whose outputs share a score."""
    return tuple(place_layer(a) for a in attributes if head_of(a).has_one_score)


def place_layer(attribute: Attribute) -> str:
    """Name the output layer of an attribute; of landmarks, of their places."""
    return f"{attribute.name}_output"


def visibility_layer(attribute: Attribute) -> str:
    return f"visible_{attribute.name}_output"


def attribute_outputs(
    attribute: Attribute, outputs: Mapping[str, Float[Array, "R _"]]
) -> Float[Array, "R O"]:
    """Give an attribute's outputs as `attribute_heads` has them: landmarks' x, y, visible by
    point.
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
    """Give every loss term, unweighted, over a batch of regions from `targets.clean`.

    The first slot says what a region shows, none that it shows nothing; a region that is not
    exhaustive says nothing of that.
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
    """Give the error of the places of visible points (of all known ones, if `hidden`), and the
    square of the error of the probability of being visible. Source: HyperFace, equations 2 and 3.

    The paper's visibility is a number without bounds; as a probability it is one that can be read.
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
    """Give the landmarks x, y, visible that are found on regions of `side`, in their pixels."""
    found = attribute_outputs(attribute, outputs)
    head, frames = head_of(attribute), _frames(len(found), side)
    return head.place(head.decode(found, frames), frames).reshape(len(found), -1, 3)


def placed_points(found: Float[Array, "R J 3"], hidden: bool) -> Bool[Array, "R J"]:
    """Say which of found landmarks have places: those seen; all, where hidden ones are learnt."""
    return (found[..., 2] >= VISIBLE) | hidden


def _frames(count: int, side: int) -> Float[Array, "R 4"]:
    return jnp.tile(jnp.array([[0.0, 0.0, side, side]]), (count, 1))


def _learnt_points(
    truth: Float[Array, "R J 3"], known: Bool[Array, "R J 3"], hidden: bool
) -> Bool[Array, "R J"]:
    """Say which points' places are learnt: the known ones that nobody called hidden, or all known
    ones.
    """
    is_hidden = known[..., 2] & (truth[..., 2] < 0.5)
    return known[..., :2].all(-1) & (hidden | ~is_hidden)
