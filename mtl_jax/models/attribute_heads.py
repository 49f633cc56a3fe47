"""What each kind of attribute asks of a head: how many outputs, which loss, how outputs become
predictions.

The kinds and the layout of labels and predictions are those of `mtl_jax.attributes.base`.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.scipy.special import entr
from jaxtyping import Bool, Float

from mtl_jax import losses
from mtl_jax.attributes.base import Attribute
from mtl_jax.attributes.categorical import Categorical
from mtl_jax.attributes.continuous import Continuous
from mtl_jax.attributes.landmarks import Landmarks
from mtl_jax.attributes.ordinal import Ordinal
from mtl_jax.attributes.pose import Pose
from mtl_jax.types import Array, Term

BINS = 101  # of a continuous attribute that is learnt as probabilities over its range
STEPS = BINS - 1  # of its range, for each of which coral asks whether the number is above it
SMOOTH_L1_BETA = 1 / 9  # in units of the range, of `Pose.scale`, of the box's side


def output_size(attribute: Attribute) -> int:
    """Give the number of outputs that a head needs for `attribute`."""
    match attribute:
        case Categorical(loss="binary_cross_entropy"):
            return 1
        case Ordinal():
            return len(attribute.classes) - 1
        case Continuous(loss="distribution" | "classification"):
            return BINS
        case Continuous(loss="coral"):
            return STEPS
        case _:
            return attribute.prediction_size


def has_one_score(attribute: Attribute) -> bool:
    """Say whether the attribute's outputs share a score, and differ by their biases alone."""
    return attribute.loss == "coral"


def attribute_loss(
    attribute: Attribute,
    outputs: Float[Array, "R O"],
    values: Float[Array, "R V"],
    known: Bool[Array, "R V"],
    boxes: Float[Array, "R 4"],
) -> Term:
    """Give the attribute's loss over the labels that are known.

    `boxes` are the regions that the outputs were read from: landmarks are relative to them.
    """
    values = jnp.where(known, values, 0.0)
    match attribute:
        case Categorical(loss="binary_cross_entropy"):
            each = losses.binary_cross_entropy(outputs[:, 0], values[:, 0])
            return (losses.masked_sum(each, known[:, 0]),)
        case Categorical():
            each = losses.cross_entropy(outputs, values[:, 0].astype(int))
            return (losses.masked_sum(each, known[:, 0]),)
        case Ordinal():
            # Is the level above the i-th one? Source: Niu et al., Ordinal Regression with Multiple
            # Output CNN, 2016.
            above = (values > jnp.arange(outputs.shape[1])).astype(jnp.float32)
            each = losses.binary_cross_entropy(outputs, above)
            return (losses.masked_sum(each, known[:, 0]),)
        case Continuous():
            each = _continuous_loss(attribute, outputs, values)
            return (losses.masked_sum(each, known[:, 0]),)
        case Pose():
            turn = 360 / attribute.scale
            targets = values / attribute.scale
            # The way round that is shorter: 179 and -179 degrees are 2 apart.
            targets += turn * jnp.round((jax.lax.stop_gradient(outputs) - targets) / turn)
            each = losses.regression(attribute.loss, outputs, targets, SMOOTH_L1_BETA)
            return (losses.masked_sum(each, known),)
        case Landmarks():
            points, seen = _points(outputs), _points(values)
            targets = relative_places(seen[..., :2], boxes)
            place = losses.regression(attribute.loss, points[..., :2], targets, SMOOTH_L1_BETA)
            visible = losses.binary_cross_entropy(points[..., 2], seen[..., 2])
            known_places, known_visible = _points(known)[..., :2], _points(known)[..., 2]
            return (
                losses.masked_sum(place, known_places),
                losses.masked_sum(visible, known_visible),
            )
    raise TypeError(f"no loss for attributes of kind {attribute.kind}")


def decode(attribute: Attribute, outputs: Float[Array, "R O"]) -> Float[Array, "R E"]:
    """Turn a head's outputs into predictions, landmarks in sides of their box from its centre."""
    match attribute:
        case Categorical(loss="binary_cross_entropy"):
            return jax.nn.sigmoid(jnp.concatenate([-outputs, outputs], -1))
        case Categorical():
            return jax.nn.softmax(outputs)
        case Ordinal():
            levels = jnp.asarray(attribute.levels)
            return levels[0] + jax.nn.sigmoid(outputs) @ jnp.diff(levels)[:, None]
        case Continuous():
            return (
                attribute.range[0] + _scale(attribute) * _scaled_value(attribute, outputs)[:, None]
            )
        case Pose():
            return _wrapped(outputs * attribute.scale)
        case Landmarks():
            points = _points(outputs)
            visible = jax.nn.sigmoid(points[..., 2:])
            return jnp.concatenate([points[..., :2], visible], -1).reshape(outputs.shape)
    raise TypeError(f"no decoding for attributes of kind {attribute.kind}")


def mean(attribute: Attribute, answers: Sequence[Float[Array, "*B E"]]) -> Float[Array, "*B E"]:
    """Average predictions of the same things; angles around the circle."""
    if not isinstance(attribute, Pose):
        return sum(answers[1:], answers[0]) / len(answers)
    first = answers[0]
    return _wrapped(first + sum(_wrapped(answer - first) for answer in answers) / len(answers))


def _wrapped(degrees: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """Give the same angles within -180 and 180; those that are there to the bit."""
    return degrees - 360 * jnp.round(degrees / 360)


def place(
    attribute: Attribute, predictions: Float[Array, "R E"], boxes: Float[Array, "R 4"]
) -> Float[Array, "R E"]:
    """Bring what `decode` gives for `boxes` to canvas pixels."""
    if not isinstance(attribute, Landmarks):
        return predictions
    points = _points(predictions)
    places = points[..., :2] * _sides(boxes) + _centres(boxes)
    return jnp.concatenate([places, points[..., 2:]], -1).reshape(predictions.shape)


def relative_places(
    places: Float[Array, "R J 2"], boxes: Float[Array, "R 4"]
) -> Float[Array, "R J 2"]:
    """Give places in sides of their box from its centre."""
    return (places - _centres(boxes)) / _sides(boxes)


def _continuous_loss(
    attribute: Continuous, outputs: Float[Array, "R O"], values: Float[Array, "R 2"]
) -> Float[Array, "R"]:
    """Compare with the nearest number of the label's interval, both in units of the scale."""
    low, high = attribute.range
    # A missing label is 0, far from some ranges: where no bin is near, gradients are not finite.
    interval = (jnp.clip(values, low, high) - low) / _scale(attribute)
    if attribute.loss == "coral":
        return _coral_loss(outputs, interval)
    if attribute.loss == "classification":
        return _classification_loss(outputs, interval)
    value = _scaled_value(attribute, outputs)
    target = jnp.clip(jax.lax.stop_gradient(value), interval[:, 0], interval[:, 1])
    if attribute.loss == "distribution":
        error = losses.regression("l1", value, target, SMOOTH_L1_BETA)
        return 0.1 * _distribution_loss(outputs, interval) + error
    return losses.regression(attribute.loss, value, target, SMOOTH_L1_BETA)


def _distribution_loss(
    outputs: Float[Array, "R O"], interval: Float[Array, "R 2"]
) -> Float[Array, "R"]:
    """Give the divergence of the probabilities of the bins from a Gaussian of 2 % of the range
    around a number.

    Source: Gao et al., Age Estimation Using Expectation of Label Distribution Learning, 2018, which
    puts the error of the mean beside it. As there, the Gaussian is cut at the ends of the range: of
    a number there the mean lies up to 1.3 % of the range inside. An interval does not say how
    likely each of its numbers is: it gives minus the logarithm of the mass in it, its ends being as
    soft.
    """
    return _bins_loss(outputs, interval, -0.5 * (_beyond(interval) / 0.02) ** 2)


def _classification_loss(
    outputs: Float[Array, "R O"], interval: Float[Array, "R 2"]
) -> Float[Array, "R"]:
    """Give the divergence of the probabilities of the bins from those of the one or two bins that a
    number lies at, whose mean it is; for an interval minus the logarithm of the mass in it.

    Source: Rothe, Timofte, Van Gool, DEX: Deep EXpectation of Apparent Age, 2015: the prediction is
    the mean.
    """
    return _bins_loss(outputs, interval, jnp.log(jnp.maximum(1 - _beyond(interval) * STEPS, 0)))


def _beyond(interval: Float[Array, "R 2"]) -> Float[Array, "R O"]:
    """Give how far from an interval, in ranges, each bin lies."""
    bins = jnp.linspace(0.0, 1.0, BINS)[None]
    return jnp.abs(bins - jnp.clip(bins, interval[:, :1], interval[:, 1:]))


def _bins_loss(
    outputs: Float[Array, "R O"], interval: Float[Array, "R 2"], log_near: Float[Array, "R O"]
) -> Float[Array, "R"]:
    log_scores = jax.nn.log_softmax(outputs)
    wanted = jax.nn.softmax(log_near)
    divergence = -(wanted * log_scores + entr(wanted)).sum(-1)
    mass = -jax.nn.logsumexp(log_scores + log_near, -1)
    return jnp.where(interval[:, 1] > interval[:, 0], mass, divergence)


def _coral_loss(outputs: Float[Array, "R O"], interval: Float[Array, "R 2"]) -> Float[Array, "R"]:
    """Ask for each step whether the number is above it: the divergence of the answer from the part
    of the step that lies below the number, averaged over the steps.

    On the ends of steps that is the cross entropy of the paper, up to its factor, the number of
    steps. Between, and anywhere in an interval, the parts below its two ends bound the answer.
    Source: Cao, Mirjalili, Raschka, Rank Consistent Ordinal Regression for Neural Networks, 2020,
    equation 4.
    """
    starts = jnp.arange(STEPS)[None]
    least, most = (jnp.clip(STEPS * interval[:, i, None] - starts, 0, 1) for i in (0, 1))
    target = jnp.clip(jax.lax.stop_gradient(jax.nn.sigmoid(outputs)), least, most)
    entropy = entr(target) + entr(1 - target)
    return (losses.binary_cross_entropy(outputs, target) - entropy).mean(-1)


def _scale(attribute: Continuous) -> float:
    low, high = attribute.range
    whole = attribute.loss in Continuous.over_steps or not attribute.scale
    return high - low if whole else attribute.scale


def _scaled_value(attribute: Continuous, outputs: Float[Array, "R O"]) -> Float[Array, "R"]:
    """Give how far above the low end of the range the value lies that outputs mean, in units of
    the scale.
    """
    if attribute.loss in ("distribution", "classification"):
        return jax.nn.softmax(outputs) @ jnp.linspace(0.0, 1.0, BINS)
    if attribute.loss == "coral":
        return jax.nn.sigmoid(outputs).mean(-1)
    low, high = attribute.range
    zero = 0.5 * (low + high) if attribute.centered else 0.0
    return outputs[:, 0] + (zero - low) / _scale(attribute)


def _points(flat: Array) -> Array:
    return flat.reshape(flat.shape[0], -1, 3)


def _centres(boxes: Float[Array, "R 4"]) -> Float[Array, "R 1 2"]:
    return ((boxes[:, :2] + boxes[:, 2:]) / 2)[:, None]


def _sides(boxes: Float[Array, "R 4"]) -> Float[Array, "R 1 2"]:
    return jnp.maximum(boxes[:, 2:] - boxes[:, :2], 1.0)[:, None]
