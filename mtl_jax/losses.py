"""Element-wise losses, and the one place where they are averaged."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from mtl_jax.types import Array, MaskedSum, Term


def masked_sum(values: Float[Array, "..."], mask: Bool[Array, "..."]) -> MaskedSum:
    """Add `values` up where `mask` holds, and count them.

    `mask` broadcasts against `values` from the left. What stands where it does not hold, NaN
    included, has no part in the value or the gradient. Under jit over a mesh the sum is that of
    all devices' elements.
    """
    mask = jnp.broadcast_to(
        mask.reshape(mask.shape + (1,) * (values.ndim - mask.ndim)), values.shape
    )
    return MaskedSum(jnp.where(mask, values, 0.0).sum(), mask.sum())


def term_value(term: Term) -> Float[Array, ""]:
    """Give a term: the sum of its means, of which one that counts nothing is 0."""
    means = [total / jnp.maximum(count, 1) for total, count in term]
    return sum(means, jnp.float32(0))


def weighted_sum(
    terms: Mapping[str, Float[Array, ""]], weights: Mapping[str, float]
) -> Float[Array, ""]:
    """Give the objective that terms make with the weight of each."""
    return sum((weights[name] * value for name, value in terms.items()), jnp.float32(0))


def smooth_l1(
    predictions: Float[Array, "*S"], targets: Float[Array, "*S"], beta: float
) -> Float[Array, "*S"]:
    """Give d^2 / (2 beta) where |d| < beta, else |d| - beta / 2. Source: Girshick, Fast R-CNN, eq.
    3 (beta 1).
    """
    distance = jnp.abs(predictions - targets)
    if beta == 0:
        return distance
    return jnp.where(distance < beta, 0.5 * distance**2 / beta, distance - 0.5 * beta)


def cross_entropy(logits: Float[Array, "*S K"], labels: Int[Array, "*S"]) -> Float[Array, "*S"]:
    """Give minus the log-probability of each label."""
    log_probabilities = jax.nn.log_softmax(logits)
    return -jnp.take_along_axis(log_probabilities, labels[..., None], axis=-1)[..., 0]


def binary_cross_entropy(
    logits: Float[Array, "*S"], targets: Float[Array, "*S"]
) -> Float[Array, "*S"]:
    """Give the cross entropy of sigmoid(logits) with targets in 0..1, soft ones included."""
    # Written with a maximum and a logarithm it has, at 0, gradients of its own.
    return jnp.logaddexp(logits, 0.0) - logits * targets


def regression(
    kind: str, predictions: Float[Array, "*S"], targets: Float[Array, "*S"], beta: float
) -> Float[Array, "*S"]:
    """Give the smooth_l1, l1 or l2 loss that `kind` names."""
    match kind:
        case "smooth_l1":
            return smooth_l1(predictions, targets, beta)
        case "l1":
            return jnp.abs(predictions - targets)
        case "l2":
            return (predictions - targets) ** 2
    raise ValueError(f"{kind!r} is none of smooth_l1, l1, l2")
