"""Outputs of a continuous attribute: the number, or probabilities over steps of its range."""

import jax
import jax.numpy as jnp
from jax.scipy.special import entr
from jaxtyping import Bool, Float

from mtl_jax import losses
from mtl_jax.attributes.continuous import Continuous
from mtl_jax.models.attribute_heads.base import SMOOTH_L1_BETA, Head
from mtl_jax.types import Array, Term

BINS = 101  # of a range that is learnt as probabilities
STEPS = BINS - 1  # of a range, for each of which coral asks whether the number is above it


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
