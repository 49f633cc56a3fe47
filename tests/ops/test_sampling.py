import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax.ops.sampling import sample

COUNT = 60


def candidates(num_positive, num_negative, seed=0):
    order = np.random.default_rng(seed).permutation(COUNT)
    positive, negative = np.zeros((2, COUNT), bool)
    positive[order[:num_positive]] = True
    negative[order[num_positive : num_positive + num_negative]] = True
    return jnp.asarray(positive), jnp.asarray(negative)


@pytest.mark.parametrize("num_positive", [0, 1, 7, 8, 9, 30])
@pytest.mark.parametrize("num_negative", [0, 3, 24, 30])
def test_fault_7_only_candidates_are_drawn(num_positive, num_negative):
    positive, negative = candidates(num_positive, num_negative)
    samples = jax.jit(sample, static_argnums=(3, 4))(
        jax.random.key(0), positive, negative, 32, 0.25
    )
    drawn_positive = min(num_positive, 8)
    drawn = drawn_positive + min(num_negative, 32 - drawn_positive)
    index, valid, is_positive = map(np.asarray, samples)
    assert index.shape == (32,)
    assert list(valid) == [True] * drawn + [False] * (32 - drawn)
    assert list(is_positive) == [True] * drawn_positive + [False] * (32 - drawn_positive)
    assert len(set(index[valid])) == drawn
    assert positive[index[is_positive]].all()
    assert negative[index[valid & ~is_positive]].all()
    assert (index[~valid] == 0).all()


def test_fault_7_with_room_for_all_every_candidate_is_drawn_with_any_key():
    positive, negative = candidates(5, 20)
    for seed in range(5):
        samples = sample(jax.random.key(seed), positive, negative, 64, 0.5)
        index = np.asarray(samples.index)
        assert set(index[samples.positive]) == set(np.flatnonzero(positive))
        assert set(index[samples.valid & ~samples.positive]) == set(np.flatnonzero(negative))


def test_more_samples_than_candidates_exist():
    positive, negative = jnp.array([True, False]), jnp.array([False, True])
    samples = sample(jax.random.key(0), positive, negative, 10, 0.5)
    assert list(samples.index[:2]) == [0, 1]
    assert list(samples.valid) == [True, True] + [False] * 8


def test_a_candidate_that_is_both_counts_as_positive():
    both = jnp.array([True, False, False])
    samples = sample(jax.random.key(0), both, both, 4, 0.5)
    assert int(samples.valid.sum()) == int(samples.positive.sum()) == 1


def test_each_candidate_is_drawn_equally_often():
    positive, negative = candidates(20, 40)
    draws = 4000
    run = jax.jit(jax.vmap(lambda key: sample(key, positive, negative, 16, 0.5)))
    samples = run(jax.random.split(jax.random.key(1), draws))
    times = np.bincount(np.asarray(samples.index).ravel(), minlength=COUNT)
    # The distribution is binomial; the bounds are five standard deviations.
    for kind, share in ((positive, 8 / 20), (negative, 8 / 40)):
        spread = 5 * np.sqrt(draws * share * (1 - share))
        assert np.abs(times[np.asarray(kind)] - draws * share).max() < spread


def test_another_key_draws_other_candidates():
    positive, negative = candidates(30, 30)
    a, b = (sample(jax.random.key(seed), positive, negative, 16, 0.5).index for seed in (0, 1))
    assert set(np.asarray(a)) != set(np.asarray(b))
