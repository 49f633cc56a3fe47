"""Tests of the losses against NumPy formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax import losses


def masked_mean(values, mask):
    return losses.term_value((losses.masked_sum(values, mask),))


def test_masked_mean_is_the_mean_of_the_subset():
    rng = np.random.default_rng(0)
    values, mask = rng.normal(size=(5, 7)).astype(np.float32), rng.random((5, 7)) < 0.3
    assert masked_mean(values, mask) == pytest.approx(values[mask].mean(), rel=1e-6)


def test_masked_mean_broadcasts_the_mask_from_the_left():
    values, mask = np.arange(12.0).reshape(3, 4), np.array([True, False, True])
    assert masked_mean(values, mask) == pytest.approx(values[mask].mean())


def test_masked_mean_of_nothing_is_zero_with_zero_gradient():
    value, gradient = jax.value_and_grad(masked_mean)(jnp.ones(3), jnp.zeros(3, bool))
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("poison", [np.nan, np.inf, 1e30])
def test_masked_mean_ignores_the_values_of_masked_slots(poison):
    mask = jnp.array([True, False, True])
    mean = jax.value_and_grad(masked_mean)
    clean, dirty = mean(jnp.array([1.0, 0.0, 4.0]), mask), mean(jnp.array([1.0, poison, 4.0]), mask)
    np.testing.assert_array_equal(clean[0], dirty[0])
    np.testing.assert_array_equal(clean[1], dirty[1])


def test_a_target_of_zero_is_a_target():
    """Test a known fault: `targets != 0` as a weight omits objects whose target is exactly 0."""
    error = losses.smooth_l1(jnp.array([2.0, 2.0]), jnp.array([0.0, 1.0]), 1.0)
    assert masked_mean(error, jnp.array([True, True])) == pytest.approx((1.5 + 0.5) / 2)


@pytest.mark.parametrize("beta", [1 / 9, 1.0])
def test_smooth_l1(beta):
    distance = np.linspace(-3, 3, 61)
    expected = [0.5 * d * d / beta if abs(d) < beta else abs(d) - beta / 2 for d in distance]
    np.testing.assert_allclose(
        losses.smooth_l1(distance, np.zeros(61), beta), expected, rtol=1e-5, atol=1e-6
    )


def test_smooth_l1_of_beta_0_is_l1():
    distance = jnp.array([1.0, -2.0, 0.0])
    np.testing.assert_array_equal(losses.smooth_l1(distance, jnp.zeros(3), 0.0), [1, 2, 0])
    slope = jax.grad(lambda d: losses.smooth_l1(d, jnp.zeros(3), 0.0).sum())(distance)
    np.testing.assert_array_equal(slope[:2], [1, -1])
    assert np.isfinite(slope[2])


def test_cross_entropies():
    logits, labels = np.array([[1.0, -2.0, 0.5], [100.0, 0.0, -100.0]]), np.array([2, 0])
    probability = np.exp(logits - logits.max(1, keepdims=True))
    probability /= probability.sum(1, keepdims=True)
    expected = -np.log(probability[[0, 1], labels])
    np.testing.assert_allclose(losses.cross_entropy(jnp.array(logits), labels), expected, atol=1e-6)
    x, target = np.array([-80.0, -1.0, 0.0, 3.0, 80.0]), np.array([0.0, 1.0, 0.5, 0.2, 1.0])
    p = 1 / (1 + np.exp(-x))
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = -np.where(target > 0, target * np.log(p), 0) - np.where(
            target < 1, (1 - target) * np.log1p(-p), 0
        )
    np.testing.assert_allclose(losses.binary_cross_entropy(x, target), expected, atol=1e-5)
    gradient = jax.grad(lambda x: losses.binary_cross_entropy(x, target).sum())(jnp.array(x))
    np.testing.assert_allclose(gradient, p - target, atol=1e-6)
