import itertools

import jax
import numpy as np
import pytest
from mistakes import refused
from training.toy import init, make_batches, make_model

from mtl_jax.config.options.training import OptimizerOptions
from mtl_jax.training.sharding import make_mesh
from mtl_jax.training.stages import trainable
from mtl_jax.training.tuning import (
    Tried,
    largest_batch,
    step_memory,
    suggest_learning_rate,
    try_learning_rates,
)

OPTIONS = OptimizerOptions(name="sgd", momentum=0.0, weight_decay=0.0)


def test_a_rate_that_lowers_the_loss_is_found_and_one_that_diverges_is_not():
    variables = init(0)
    mask = trainable(variables["params"], "all")
    batches = itertools.islice(make_batches()(0), 80)
    tried = try_learning_rates(
        make_model(), variables, batches, OPTIONS, mask, make_mesh(), 80, 1e-5, 100.0
    )
    rates = [t.rate for t in tried]
    assert rates == sorted(rates)
    assert rates[0] == pytest.approx(1e-5, rel=0.3)
    assert len(tried) < 80  # it stopped where the loss diverged
    found = suggest_learning_rate(tried)
    assert 1e-3 < found < rates[-1] / 2


def test_the_steepest_fall_is_suggested():
    losses = [5.0, 5.0, 4.9, 4.0, 3.8, 3.7, 6.0, 20.0]
    tried = [Tried(10.0 ** (i - 6), loss) for i, loss in enumerate(losses)]
    assert suggest_learning_rate(tried) in (1e-4, 1e-3)  # either side of the steepest fall
    assert suggest_learning_rate([Tried(1e-6, 2.0)]) == 1e-6
    with refused():
        suggest_learning_rate([])


def test_a_larger_batch_takes_more_memory():
    variables, mesh = init(0), make_mesh()
    mask = trainable(variables["params"], "all")
    batch = next(make_batches()(0))

    def take(count):
        return jax.tree.map(lambda x: np.concatenate([np.asarray(x)] * count), batch)

    sizes = [
        step_memory(make_model(), variables, take(count), OPTIONS, mask, mesh) for count in (1, 8)
    ]
    assert 0 < sizes[0] < sizes[1]
    more = step_memory(make_model(), variables, batch, OPTIONS, mask, mesh, ema=0.9)
    assert more > sizes[0]  # the average


@pytest.mark.parametrize(
    ("available", "multiple", "expected"),
    [(2000, 1, 15), (250, 1, 1), (100, 1, 0), (2000, 4, 12), (375, 1, 2)],
)
def test_the_largest_batch_fits_into_memory(available, multiple, expected):
    assert largest_batch(lambda count: 100 + 100 * count, available, multiple) == expected


def test_memory_that_grows_faster_than_linearly():
    assert largest_batch(lambda count: 10 * count**2, 1250) == 10
