"""Split conformal intervals: ranks computed by hand, and coverage by simulation."""

import math

import numpy as np
import pytest
from evals.test_groups import ATTRIBUTES, CATEGORIES, random_people
from mistakes import refused

from mtl_jax.config.options.evaluation import EvalOptions
from mtl_jax.evals.accumulate import Evaluator
from mtl_jax.evals.intervals import calibrate


def test_intervals_computed_by_hand():
    errors = np.array([5.0, 1.0, 9.0, 3.0, 7.0, 2.0, 8.0, 4.0, 6.0])
    # Nine of the ten possible ranks of a tenth label are at most 9, which covers 90 %.
    assert calibrate(errors, 0.9) == (9.0, 9, 0.9)
    assert calibrate(errors, 0.8) == (8.0, 9, 0.8)
    assert calibrate(errors, 0.75) == (8.0, 9, 0.75)  # rank 7.5, rounded up
    assert calibrate(errors, 0.91) is None  # rank 10 of 9
    assert calibrate(errors[:8], 0.9) is None
    assert calibrate(np.array([]), 0.5) is None


@pytest.mark.parametrize("coverage", [0.1, 0.3, 0.7, 0.9, 0.95])
def test_the_rank_is_not_one_too_high_by_rounding(coverage):
    for n in range(1, 400):
        found = calibrate(np.arange(1.0, n + 1), coverage)
        hundredths = round(100 * coverage) * (n + 1)
        rank = -(-hundredths // 100)
        assert (found is None) == (rank > n)
        assert found is None or found.half_width == rank


@pytest.mark.parametrize(("n", "coverage"), [(9, 0.9), (20, 0.9), (57, 0.8), (200, 0.95)])
def test_exchangeable_errors_have_the_nominal_coverage(n, coverage):
    rng = np.random.default_rng(n)
    draws = 20_000
    errors = np.abs(rng.standard_t(3, (draws, n + 1)))
    hits = 0
    for row in errors:
        hits += row[-1] <= calibrate(row[:-1], coverage).half_width
    # Without ties the coverage is ceil((n + 1) c) / (n + 1): between c and c + 1 / (n + 1).
    exact = math.ceil(round((n + 1) * coverage, 9)) / (n + 1)
    assert coverage <= exact < coverage + 1 / (n + 1)
    assert abs(hits / draws - exact) < 4 * math.sqrt(exact * (1 - exact) / draws)


def filled(seed, **options):
    evaluator = Evaluator(CATEGORIES, ATTRIBUTES, EvalOptions(**options))
    for *_, record, result in random_people(200, seed):
        evaluator.add(record, result)
    return evaluator


def errors_of(seed):
    people = random_people(200, seed)
    return [
        abs(float(np.float32(guess[0])) - labels["age"])
        for labels, found, guess, *_ in people
        if found and labels["age"] is not None
    ]


def test_an_evaluator_reports_its_intervals():
    evaluator = filled(0, coverage=0.9, groups=(("gender", 0.0),))
    assert not any("interval" in name for name in evaluator.metrics())
    evaluator.calibrate(filled(1))
    metrics = evaluator.metrics()
    held_out, own = sorted(errors_of(1)), errors_of(0)
    width = held_out[math.ceil(0.9 * (len(held_out) + 1)) - 1]
    assert metrics["age/interval/half_width"] == pytest.approx(width)
    assert metrics["age/interval/calibrated_on"] == len(held_out)
    entries = [{"attributes": {"age": {"value": value}}} for value in (50.0, -115.0)]
    evaluator.add_intervals(entries)
    assert entries[0]["attributes"]["age"]["interval"] == pytest.approx(
        [50 - width, 50 + width], abs=1e-4
    )
    assert entries[1]["attributes"]["age"]["interval"][0] == evaluator.attributes[0].range[0]
    share = sum(error <= width for error in own) / len(own)
    assert metrics["age/interval/coverage"] == pytest.approx(share)
    assert {name for name in metrics if "interval" in name} == {
        f"age/interval/{name}" for name in ("half_width", "calibrated_on", "coverage")
    }
    table = evaluator.by_group()["age", "gender"]
    found = {group: scores["labelled"] - scores["misses"] for group, scores in table.items()}
    total = sum(found[group] * table[group]["interval/coverage"] for group in table)
    assert total / len(own) == pytest.approx(share)


def test_too_few_labels_give_none():
    evaluator = filled(0, coverage=0.999)
    evaluator.calibrate(filled(1))
    assert evaluator.intervals == {}
    with refused("coverage", 1, error=ValueError):
        EvalOptions(coverage=1)
