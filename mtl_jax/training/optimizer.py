"""Optimizers and learning-rate schedules."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from mtl_jax.config.options.training import OptimizerOptions
from mtl_jax.training.stages import in_backbone, path_of
from mtl_jax.types import Array


def learning_rate_schedule(
    options: OptimizerOptions, stage_steps: int, learning_rate: float
) -> Callable[[Array], Array]:
    """Return the learning rate as a function of the number of steps completed in the stage.

    `stage_steps` is the length of the stage. A cosine ends there; milestones up to 1 are fractions
    of it.
    """
    milestones = [m if m > 1 else round(m * stage_steps) for m in options.milestones]
    warmup = options.warmup_steps

    def schedule(step: Array) -> Array:
        step = jnp.asarray(step, jnp.float32)
        rate = jnp.float32(learning_rate)
        if options.schedule == "steps":
            passed = sum(((step >= m).astype(jnp.float32) for m in milestones), jnp.float32(0))
            rate *= options.gamma**passed
        elif options.schedule == "cosine":
            done = (step - warmup) / max(1, stage_steps - warmup)
            rate *= 0.5 * (1 + jnp.cos(jnp.pi * jnp.clip(done, 0, 1)))
        elif options.schedule == "exponential":
            rate *= options.gamma ** (step / stage_steps)
        if warmup:
            start = options.warmup_factor
            rate *= start + (1 - start) * jnp.minimum(step / warmup, 1)
        return rate

    return schedule


def make_optimizer(
    options: OptimizerOptions, schedule: optax.Schedule
) -> optax.GradientTransformation:
    """Build the optimizer of a stage with its learning-rate `schedule`.

    The chain is gradient clipping, weight decay and momentum (or Adam and weight decay), the
    backbone's multiplier, and the learning rate. Vectors and scalars, that is norms and biases, are
    not decayed.
    """
    decay = optax.add_decayed_weights(options.weight_decay, mask=_decays)
    if options.name == "sgd":
        # The decay is part of the gradient that momentum averages, as in torch.optim.SGD.
        rule = (decay, optax.trace(options.momentum) if options.momentum else optax.identity())
    else:
        rule = (optax.scale_by_adam(options.beta1, options.beta2, options.epsilon), decay)
    clip = optax.clip_by_global_norm(options.clip_norm) if options.clip_norm else optax.identity()
    backbone = optax.stateless(lambda u, _: _scale_backbone(u, options.backbone_multiplier))
    return optax.chain(clip, *rule, backbone, optax.scale_by_learning_rate(schedule))


def _decays(params: optax.Params) -> optax.Params:
    return jax.tree.map(lambda leaf: jnp.ndim(leaf) > 1, params)


def _scale_backbone(updates: optax.Updates, multiplier: float) -> optax.Updates:
    if multiplier == 1:
        return updates
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf * multiplier if in_backbone(path_of(path)) else leaf, updates
    )
