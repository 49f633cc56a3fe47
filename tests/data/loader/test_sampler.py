"""Sampling plans: how often records are used, and that a batch depends on its step only."""

from collections import Counter

import numpy as np
import pytest
from mistakes import refused

from mtl_jax.data.loader.sampler import Bucket, TrainingPlan, eval_batches

WIDE, HIGH = (64, 96), (96, 64)


def buckets(*lengths: tuple[int, int]) -> list[Bucket]:
    """Return buckets of two sources. `lengths` are the numbers of their records in each bucket; the
    records of the first source are numbered first.
    """
    first, second = 0, sum(pair[0] for pair in lengths)
    out = []
    for canvas, (a, b) in zip((WIDE, HIGH), lengths, strict=False):
        out.append(Bucket(canvas, (np.arange(first, first + a), np.arange(second, second + b))))
        first, second = first + a, second + b
    return out


def seen(plan: TrainingPlan, steps: range) -> Counter:
    return Counter(int(i) for step in steps for i in plan.batch(step)[1])


def test_without_leftovers_each_record_is_used_once_in_an_epoch():
    plan = TrainingPlan(buckets((8, 4), (4, 8)), (1.0, 1.0), 4, seed=0)
    for epoch in range(3):
        steps = range(plan.first_step(epoch), plan.first_step(epoch + 1))
        assert len(steps) == 6
        assert seen(plan, steps) == Counter(range(24))


@pytest.mark.parametrize("batch_size", [1, 3, 5, 16])
def test_leftovers_are_carried_over_and_no_record_is_lost_or_repeated(batch_size):
    """After whole epochs, the only unused examples are those of unfinished batches."""
    plan = TrainingPlan(buckets((7, 2), (3, 1)), (1.0, 1.0), batch_size, seed=1)
    epochs = 40
    count = seen(plan, range(plan.first_step(epochs)))
    assert sum(count.values()) == plan.first_step(epochs) * batch_size
    missing = [epochs - count[i] for i in range(13)]
    assert min(missing) >= 0
    assert sum(missing) < 2 * batch_size  # one unfinished batch for each bucket


@pytest.mark.parametrize(
    ("weights", "epochs"), [((1.0, 2.0), 4), ((1.0, 0.5), 4), ((0.25, 3.5), 8)]
)
def test_weights_are_how_often_records_are_used(weights, epochs):
    plan = TrainingPlan(buckets((8, 6), (5, 3)), weights, 1, seed=2)
    count = seen(plan, range(plan.first_step(epochs)))
    for record in range(13):
        assert count[record] == epochs * weights[0]
    for record in range(13, 22):
        assert count[record] == epochs * weights[1]


def test_a_weight_of_half_is_a_random_half_and_then_the_other():
    plans = [TrainingPlan(buckets((10, 0)), (0.5, 1.0), 5, seed) for seed in (0, 1)]
    halves = [set(plan.batch(0)[1].tolist()) for plan in plans]
    assert halves[0] != halves[1]
    for plan, half in zip(plans, halves, strict=True):
        assert half | set(plan.batch(1)[1].tolist()) == set(range(10))


def test_all_images_of_a_batch_have_one_padded_size():
    plan = TrainingPlan(buckets((7, 2), (3, 1)), (1.0, 1.0), 3, seed=1)
    canvases = set()
    for step in range(30):
        bucket, indices = plan.batch(step)
        assert set(indices.tolist()) <= set(np.concatenate(bucket.indices).tolist())
        canvases.add(bucket.canvas)
    assert canvases == {WIDE, HIGH}


def test_a_batch_does_not_depend_on_earlier_calls():
    whole = TrainingPlan(buckets((17, 2), (3, 9)), (1.0, 1.5), 4, seed=3)
    expected = [whole.batch(step)[1].tolist() for step in range(60)]
    for step in np.random.default_rng(0).permutation(60).tolist():
        fresh = TrainingPlan(buckets((17, 2), (3, 9)), (1.0, 1.5), 4, seed=3)
        assert fresh.batch(step)[1].tolist() == expected[step]
    other = TrainingPlan(buckets((17, 2), (3, 9)), (1.0, 1.5), 4, seed=4)
    assert [other.batch(step)[1].tolist() for step in range(60)] != expected


def test_fewer_records_than_a_batch_are_repeated():
    plan = TrainingPlan(buckets((3, 0)), (1.0, 1.0), 8, seed=0)
    assert all(len(plan.batch(step)[1]) == 8 for step in range(5))
    count = seen(plan, range(3))
    assert sorted(count.values()) == [8, 8, 8]


def test_epochs_and_rows_differ_in_order_and_randomness():
    plan = TrainingPlan(buckets((32, 0)), (1.0, 1.0), 32, seed=0)
    assert plan.batch(0)[1].tolist() != plan.batch(1)[1].tolist()
    drawn = {plan.example_rng(s, r).random() for s in range(8) for r in range(8)}
    assert len(drawn) == 64


def test_late_steps_are_not_slower():
    plan = TrainingPlan(buckets((1000, 500), (300, 1)), (1.0, 0.3), 16, seed=0)
    _, indices = plan.batch(10**9)
    assert len(indices) == 16


def test_each_record_is_evaluated_once():
    batches = eval_batches(buckets((7, 2), (3, 1)), 4)
    indices = np.concatenate([rows for _, rows in batches])
    assert all(len(rows) == 4 for _, rows in batches)
    assert Counter(indices[indices >= 0].tolist()) == Counter(range(13))
    assert (indices < 0).sum() == 3


@pytest.mark.parametrize(
    ("weights", "steps"),
    [((1.0, 1.0), 8), ((2.0, 0.5), 11.5), ((0.01, 0.0), 0.05), ((0.5, 0.26), 3.28)],
)
def test_steps_of_an_epoch_depend_on_the_weights(weights, steps):
    plan = TrainingPlan(buckets((7, 2), (3, 4)), weights, 2, seed=0)
    assert plan.steps_per_epoch == pytest.approx(steps)


def test_wrong_weights_and_missing_records_are_refused():
    with refused():
        TrainingPlan([], (), 4, 0)
    with refused("weights"):
        TrainingPlan(buckets((4, 4)), (0.0, 0.0), 4, 0)
    with refused("weights", 1):
        TrainingPlan(buckets((4, 4)), (1.0,), 4, 0)
    with refused("weights", -1.0):
        TrainingPlan(buckets((4, 4)), (1.0, -1.0), 4, 0)
