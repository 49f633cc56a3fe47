import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from mtl_jax.ops.matching import match


def kinds(matches):
    both = np.asarray(matches.positive) & np.asarray(matches.negative)
    assert not both.any()
    return np.where(matches.positive, "positive", np.where(matches.negative, "negative", "neither"))


def check(overlap, usable, positive, negative, low_quality):
    ours = match(jnp.asarray(overlap), jnp.asarray(usable), positive, negative, low_quality)
    expected = oracles.match(overlap, usable, positive, negative, low_quality)
    assert list(kinds(ours)) == [kind for _, kind in expected]
    assert list(np.asarray(ours.gt_index)) == [index for index, _ in expected]


@pytest.mark.parametrize("low_quality", [False, True])
@pytest.mark.parametrize("thresholds", [(0.7, 0.3), (0.5, 0.5)])
def test_matches_as_plain_loops_do(low_quality, thresholds):
    for seed in range(10):
        rng = np.random.default_rng(seed)
        # A coarse grid: some overlaps equal the thresholds, and best overlaps tie.
        overlap = (rng.integers(0, 11, (40, 6)) / 10 * rng.random(6).round(1)).astype(np.float32)
        overlap[:, 0] = 0  # an object without overlap
        usable = rng.random(6) < 0.7
        limits = tuple(float(np.float32(t)) for t in thresholds)
        check(overlap, usable, *limits, low_quality)


def test_is_torchvisions_matcher():
    torch = pytest.importorskip("torch")
    utils = pytest.importorskip("torchvision.models.detection._utils")
    rng = np.random.default_rng(1)
    overlap = (rng.integers(0, 20, (80, 5)) / 20).astype(np.float32)
    for low_quality in (False, True):
        ours = match(jnp.asarray(overlap), jnp.ones(5, bool), 0.7, 0.3, low_quality)
        theirs = utils.Matcher(0.7, 0.3, low_quality)(torch.tensor(overlap.T)).numpy()
        np.testing.assert_array_equal(ours.positive, theirs >= 0)
        np.testing.assert_array_equal(ours.negative, theirs == -1)
        positive = theirs >= 0
        np.testing.assert_array_equal(ours.gt_index[positive], theirs[positive])


@pytest.mark.parametrize("low_quality", [False, True])
def test_without_objects_all_are_negative(low_quality):
    for overlap in (np.zeros((7, 0), np.float32), np.full((7, 3), 0.9, np.float32)):
        usable = np.zeros(overlap.shape[1], bool)
        check(overlap, usable, 0.7, 0.3, low_quality)
        matches = match(jnp.asarray(overlap), jnp.asarray(usable), 0.7, 0.3, low_quality)
        assert matches.negative.all()


def test_every_tie_with_the_best_is_a_low_quality_match():
    overlap = jnp.array([[0.2, 0.0], [0.2, 0.0], [0.1, 0.0]])
    matches = match(overlap, jnp.ones(2, bool), 0.7, 0.3, True)
    assert list(kinds(matches)) == ["positive", "positive", "negative"]


def test_an_object_without_overlap_makes_no_far_candidate_positive():
    matches = match(jnp.zeros((5, 2)), jnp.ones(2, bool), 0.7, 0.3, True)
    assert not matches.positive.any()


def test_ignored_candidates_are_not_negatives():
    overlap = jnp.array([[0.1], [0.1], [0.9]])
    ignored = jnp.array([True, False, True])
    matches = match(overlap, jnp.ones(1, bool), 0.7, 0.3, False, ignored)
    assert list(kinds(matches)) == ["neither", "negative", "positive"]


@pytest.mark.parametrize("fill", [np.nan, np.inf, 1e30])
@pytest.mark.parametrize("low_quality", [False, True])
def test_fault_3_columns_of_padding_change_nothing(fill, low_quality):
    overlap = np.random.default_rng(2).random((30, 4)).astype(np.float32)
    padded = np.concatenate([overlap, np.full((30, 3), fill, np.float32)], 1)
    usable = np.arange(7) < 4
    plain = match(jnp.asarray(overlap), jnp.ones(4, bool), 0.7, 0.3, low_quality)
    wide = match(jnp.asarray(padded), jnp.asarray(usable), 0.7, 0.3, low_quality)
    for a, b in zip(plain, wide, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("low_quality", [False, True])
def test_candidates_that_are_not_usable_are_neither_and_change_no_other(low_quality):
    rng = np.random.default_rng(3)
    overlap, usable = rng.random((30, 4)).astype(np.float32), rng.random(30) < 0.5
    overlap[~usable] *= 2  # otherwise they would be every object's best
    some = match(jnp.asarray(overlap), jnp.ones(4, bool), 0.7, 0.3, low_quality, usable=usable)
    alone = match(jnp.asarray(overlap[usable]), jnp.ones(4, bool), 0.7, 0.3, low_quality)
    assert set(kinds(some)[~usable]) == {"neither"}
    np.testing.assert_array_equal(kinds(some)[usable], kinds(alone))
    np.testing.assert_array_equal(some.gt_index[usable], alone.gt_index)
