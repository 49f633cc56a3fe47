"""Head of a continuous attribute: outputs are the number, or probabilities over its range."""

import jax
import jax.numpy as jnp
from jax.scipy.special import entr
from jaxtyping import Bool, Float

from mtl_jax import losses
from mtl_jax.attributes.continuous import Continuous
from mtl_jax.models.attribute_heads.base import SMOOTH_L1_BETA, Head
from mtl_jax.types import Array, Term

BINS = 101  # number of bins of a range, for losses over probabilities
STEPS = BINS - 1  # number of steps of a range; coral predicts for each if the number is above it


class ContinuousHead(Head[Continuous]):
    @property
    def output_size(self) -> int:
        if self.attribute.loss == "coral":
            return STEPS
        return BINS if self.attribute.loss in ("distribution", "classification") else 1

    @property
    def has_one_score(self) -> bool:
        return self.attribute.loss == "coral"

    def sums(
        self,
        outputs: Float[Array, "R O"],
        values: Float[Array, "R V"],
        known: Bool[Array, "R V"],
        boxes: Float[Array, "R 4"],
    ) -> Term:
        each = _continuous_loss(self.attribute, outputs, values)
        return (losses.masked_sum(each, known[:, 0]),)

    def decode(
        self, outputs: Float[Array, "R O"], boxes: Float[Array, "R 4"]
    ) -> Float[Array, "R E"]:
        attribute = self.attribute
        value = _scaled_value(attribute, outputs)
        return attribute.range[0] + _scale(attribute) * value[:, None]


def _continuous_loss(
    attribute: Continuous, outputs: Float[Array, "R O"], values: Float[Array, "R 2"]
) -> Float[Array, "R"]:
    """Return the loss to the nearest number of the label's interval, in units of the scale."""
    low, high = attribute.range
    # A missing label is 0, possibly far from the range; without a bin near it, gradients would not
    # be finite.
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
    """Return the divergence of the bins' probabilities from a Gaussian around the number.

    Its standard deviation is 2 % of the range. It is truncated at the ends of the range, so that
    the mean for a number at an end lies up to 1.3 % of the range inside. For an interval, the loss
    is minus the logarithm of the probability inside it, with Gaussian tails at both ends.
    Source: Gao et al., Age Estimation Using Expectation of Label Distribution Learning, 2018, which
    adds the error of the mean to this loss.
    """
    return _bins_loss(outputs, interval, -0.5 * (_beyond(interval) / 0.02) ** 2)


def _classification_loss(
    outputs: Float[Array, "R O"], interval: Float[Array, "R 2"]
) -> Float[Array, "R"]:
    """Return the divergence of the bins' probabilities from a target on the one or two bins next to
    the number, with the number as its mean.

    For an interval, the loss is minus the logarithm of the probability inside it. The prediction is
    the mean. Source: Rothe, Timofte, Van Gool, DEX: Deep EXpectation of Apparent Age, 2015.
    """
    return _bins_loss(outputs, interval, jnp.log(jnp.maximum(1 - _beyond(interval) * STEPS, 0)))


def _beyond(interval: Float[Array, "R 2"]) -> Float[Array, "R O"]:
    """Return the distance of each bin from the interval, as a fraction of the range."""
    bins = jnp.linspace(0.0, 1.0, BINS)[None]
    return jnp.abs(bins - jnp.clip(bins, interval[:, :1], interval[:, 1:]))


def _bins_loss(
    outputs: Float[Array, "R O"], interval: Float[Array, "R 2"], log_near: Float[Array, "R O"]
) -> Float[Array, "R"]:
    log_scores = jax.nn.log_softmax(outputs)
    target = jax.nn.softmax(log_near)
    divergence = -(target * log_scores + entr(target)).sum(-1)
    mass = -jax.nn.logsumexp(log_scores + log_near, -1)
    return jnp.where(interval[:, 1] > interval[:, 0], mass, divergence)


def _coral_loss(outputs: Float[Array, "R O"], interval: Float[Array, "R 2"]) -> Float[Array, "R"]:
    """Return the divergence of each step's probability from the fraction of the step below the
    number, averaged over the steps.

    For a number at the end of a step, this is the paper's cross entropy divided by the number of
    steps. For an interval, a probability between the fractions below its two ends has no loss.
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
    """Return the predicted value minus the low end of the range, in units of the scale."""
    if attribute.loss in ("distribution", "classification"):
        return jax.nn.softmax(outputs) @ jnp.linspace(0.0, 1.0, BINS)
    if attribute.loss == "coral":
        return jax.nn.sigmoid(outputs).mean(-1)
    low, high = attribute.range
    zero = 0.5 * (low + high) if attribute.centered else 0.0
    return outputs[:, 0] + (zero - low) / _scale(attribute)
