"""Optimizers compared with NumPy loops, schedules with their formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scripts
from mistakes import refused

from mtl_jax.config.options.training import OptimizerOptions
from mtl_jax.config.overrides import load_config_file
from mtl_jax.config.resolve import resolve
from mtl_jax.training.optimizer import learning_rate_schedule, make_optimizer

CONSTANT = OptimizerOptions(schedule="constant", warmup_steps=0, learning_rate=0.1)


def _run(options, params, gradients, stage_steps=100):
    optimizer = make_optimizer(
        options, learning_rate_schedule(options, stage_steps, options.learning_rate)
    )
    state = optimizer.init(params)
    for gradient in gradients:
        updates, state = optimizer.update(gradient, state, params)
        params = jax.tree.map(lambda p, u: p + u, params, updates)
    return jax.tree.map(np.asarray, params)


def _random(seed, shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_sgd_is_torchs_with_decay_only_on_kernels():
    params = {"conv": {"kernel": _random(0, (3, 4)), "bias": _random(1, (4,))}}
    gradients = [jax.tree.map(lambda p, i=i: _random(9 + i, p.shape), params) for i in range(4)]
    actual = _run(CONSTANT, params, gradients)["conv"]
    for name, decay in (("kernel", 1e-4), ("bias", 0.0)):
        p, velocity = params["conv"][name].astype(np.float64), 0.0
        for gradient in gradients:
            velocity = 0.9 * velocity + gradient["conv"][name] + decay * p
            p = p - 0.1 * velocity
        np.testing.assert_allclose(actual[name], p, rtol=1e-6, atol=1e-6)


def test_adamw_decays_independently_of_the_gradient():
    options = OptimizerOptions(
        name="adamw", schedule="constant", warmup_steps=0, learning_rate=0.01, weight_decay=0.5
    )
    params = {"kernel": _random(0, (3, 4)), "scale": _random(1, (4,))}
    gradients = [jax.tree.map(lambda p, i=i: _random(9 + i, p.shape), params) for i in range(4)]
    actual = _run(options, params, gradients)
    for name, decay in (("kernel", 0.5), ("scale", 0.0)):
        p, m, v = params[name].astype(np.float64), 0.0, 0.0
        for t, gradient in enumerate(gradients, 1):
            m = 0.9 * m + 0.1 * gradient[name]
            v = 0.999 * v + 0.001 * gradient[name] ** 2
            step = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
            p = p - 0.01 * (step + decay * p)
        np.testing.assert_allclose(actual[name], p, rtol=1e-5, atol=1e-6)


def test_the_recipe_of_maskmtl_is_plain_adam_of_a_constant_rate():
    config = load_config_file(str(scripts.ROOT / "configs/maskmtl_utkface.py"))
    options = resolve(config).optimizer
    params = {"backbone": {"kernel": _random(0, (3, 4))}, "bias": _random(1, (4,))}
    gradients = [jax.tree.map(lambda p, i=i: 100 * _random(9 + i, p.shape), params) for i in (0, 1)]
    keras = optax.adam(1e-3, eps=1e-7)
    expected, state = params, keras.init(params)
    for gradient in gradients:
        updates, state = keras.update(gradient, state)
        expected = optax.apply_updates(expected, updates)
    jax.tree.map(np.testing.assert_array_equal, _run(options, params, gradients, 5120), expected)


def test_the_exponential_schedule_falls_by_gamma_over_a_stage():
    options = OptimizerOptions(schedule="exponential", gamma=0.01, warmup_steps=0)
    rate = learning_rate_schedule(options, 60, 0.2)
    for step in (0, 1, 30, 59, 60):
        np.testing.assert_allclose(rate(step), 0.2 * 0.01 ** (step / 60), rtol=1e-5)


@pytest.mark.parametrize("norm", [0.5, 100.0])
def test_clipping_is_by_the_global_norm(norm):
    options = OptimizerOptions(
        schedule="constant", warmup_steps=0, learning_rate=1.0, weight_decay=0.0, clip_norm=norm
    )
    params = {"a": np.zeros((3, 4), np.float32), "b": np.zeros(4, np.float32)}
    gradient = {"a": _random(0, (3, 4)), "b": _random(1, (4,))}
    actual = _run(options, params, [gradient])
    length = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in gradient.values()))
    factor = min(1.0, norm / length)
    for name in params:
        np.testing.assert_allclose(actual[name], -factor * gradient[name], rtol=1e-6)


def test_the_backbone_has_its_own_rate():
    options = OptimizerOptions(
        schedule="constant",
        warmup_steps=0,
        learning_rate=1.0,
        weight_decay=0.0,
        backbone_multiplier=0.25,
    )
    params = {"backbone": {"stem": {"kernel": np.ones((2, 2))}}, "fpn": {"kernel": np.ones((2, 2))}}
    actual = _run(options, params, [jax.tree.map(np.ones_like, params)])
    np.testing.assert_allclose(actual["backbone"]["stem"]["kernel"], 0.75)
    np.testing.assert_allclose(actual["fpn"]["kernel"], 0.0)


def _rates(options, steps=60):
    schedule = jax.jit(learning_rate_schedule(options, steps, 0.2))
    return np.array([schedule(jnp.int32(step)) for step in range(steps + 1)])


def test_steps_fall_at_milestones_after_a_linear_warmup():
    options = OptimizerOptions(
        schedule="steps", warmup_steps=8, warmup_factor=0.1, milestones=(0.5, 45), gamma=0.1
    )
    expected = []
    for step in range(61):
        warmup = 0.1 + 0.9 * min(step / 8, 1)
        expected.append(0.2 * warmup * 0.1 ** ((step >= 30) + (step >= 45)))
    np.testing.assert_allclose(_rates(options), expected, rtol=1e-6)


def test_cosine_runs_from_the_end_of_the_warmup_to_zero():
    options = OptimizerOptions(schedule="cosine", warmup_steps=10, warmup_factor=0.0)
    step = np.arange(61)
    cosine = 0.5 * (1 + np.cos(np.pi * np.clip((step - 10) / 50, 0, 1)))
    np.testing.assert_allclose(
        _rates(options), 0.2 * cosine * np.minimum(step / 10, 1), rtol=1e-5, atol=1e-8
    )


def test_constant_stays():
    np.testing.assert_allclose(_rates(CONSTANT), 0.2, rtol=1e-6)


def test_the_rate_counts_the_updates():
    options = OptimizerOptions(
        schedule="steps", warmup_steps=0, milestones=(2,), momentum=0.0, weight_decay=0.0
    )
    gradient = {"a": np.ones((1, 1), np.float32)}
    actual = _run(options, {"a": np.zeros((1, 1), np.float32)}, [gradient] * 4)
    np.testing.assert_allclose(actual["a"], -0.02 * (1 + 1 + 0.1 + 0.1), rtol=1e-6)


def test_unknown_names_are_refused():
    with refused("optimizer.name", "lion", "sgd", "adamw", error=ValueError):
        OptimizerOptions(name="lion")
    known = ("steps", "cosine", "exponential", "constant")
    with refused("optimizer.schedule", "poly", *known, error=ValueError):
        OptimizerOptions(schedule="poly")
