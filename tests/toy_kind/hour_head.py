"""The network's outputs for an hour: the direction of the hand."""

import jax.numpy as jnp
from toy_kind.hour import Hour

from mtl_jax import losses
from mtl_jax.models.attribute_heads.base import Head


class HourHead(Head[Hour]):
    @property
    def output_size(self):
        return 2

    def sums(self, outputs, values, known, boxes):
        turn = 2 * jnp.pi * values[:, 0] / 24
        target = jnp.stack([jnp.cos(turn), jnp.sin(turn)], -1)
        return (losses.masked_sum(((outputs - target) ** 2).sum(-1), known[:, 0]),)

    def decode(self, outputs, boxes):
        return (jnp.arctan2(outputs[:, 1], outputs[:, 0]) * 12 / jnp.pi % 24)[:, None]
