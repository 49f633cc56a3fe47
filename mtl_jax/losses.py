"""Element-wise losses, and masked sums to average them."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from mtl_jax.types import Array, MaskedSum, Term


def masked_sum(values: Float[Array, "..."], mask: Bool[Array, "..."]) -> MaskedSum:
    """Compute the sum and the number of the `values` at which `mask` is True.

    The leading axes of `mask` are those of `values`. Values outside the mask, NaN included, affect
    neither the sum nor the gradient.
    """
    mask = jnp.broadcast_to(
        mask.reshape(mask.shape + (1,) * (values.ndim - mask.ndim)), values.shape
    )
    return MaskedSum(jnp.where(mask, values, 0.0).sum(), mask.sum())


def term_value(term: Term) -> Float[Array, ""]:
    """Compute the value of a term, the sum of its means. The mean of no elements is 0."""
    means = [total / jnp.maximum(count, 1) for total, count in term]
    return sum(means, jnp.float32(0))


def weighted_sum(
    terms: Mapping[str, Float[Array, ""]], weights: Mapping[str, float]
) -> Float[Array, ""]:
    """Return the sum of the terms times their weights, which are 1 where `weights` has none."""
    weighted = (weights.get(name, 1.0) * value for name, value in terms.items())
    return sum(weighted, jnp.float32(0))


def smooth_l1(
    predictions: Float[Array, "*S"], targets: Float[Array, "*S"], beta: float
) -> Float[Array, "*S"]:
    """Compute the smooth L1 loss: d^2 / (2 beta) where |d| < beta, else |d| - beta / 2.

    Source: Girshick, Fast R-CNN, eq. 3 (beta 1).
    """
    distance = jnp.abs(predictions - targets)
    if beta == 0:
        return distance
    return jnp.where(distance < beta, 0.5 * distance**2 / beta, distance - 0.5 * beta)


def cross_entropy(logits: Float[Array, "*S K"], labels: Int[Array, "*S"]) -> Float[Array, "*S"]:
    """Compute the negative log-likelihood of each label."""
    log_probabilities = jax.nn.log_softmax(logits)
    return -jnp.take_along_axis(log_probabilities, labels[..., None], axis=-1)[..., 0]


def binary_cross_entropy(
    logits: Float[Array, "*S"], targets: Float[Array, "*S"]
) -> Float[Array, "*S"]:
    """Compute the cross entropy of sigmoid(logits) with hard or soft targets in 0..1."""
    # Smooth, unlike formulas with a maximum, whose gradient at a logit of 0 is ambiguous.
    return jnp.logaddexp(logits, 0.0) - logits * targets


def regression(
    kind: str, predictions: Float[Array, "*S"], targets: Float[Array, "*S"], beta: float
) -> Float[Array, "*S"]:
    """Compute the element-wise loss `kind`: smooth_l1, l1 or l2.

    `beta` is used by smooth_l1. Raises ValueError if the kind is unknown.
    """
    match kind:
        case "smooth_l1":
            return smooth_l1(predictions, targets, beta)
        case "l1":
            return jnp.abs(predictions - targets)
        case "l2":
            return (predictions - targets) ** 2
    raise ValueError(f"loss is {kind!r}; it must be one of smooth_l1, l1, l2")
