"""The instances with the best and the worst predictions, against sorting all of them."""

import numpy as np
import pytest
from evals.test_groups import ATTRIBUTES, CATEGORIES, random_people

from mtl_jax.attributes.declarations import from_config
from mtl_jax.evals.accumulate import Evaluator

AGE, GENDER, SMILE, HEAD = ATTRIBUTES

BAD = [
    (GENDER, "female", [0.3, 0.7], 0.3),
    (GENDER, "male", [0.0, 1.0], 1),
    (SMILE, "slight", [1.05], 0.25),  # 0.05 of a tenth of the two levels
    (SMILE, "none", [2.0], 1),
    (AGE, 30, [30], 0),
    (AGE, 30, [24.2], 0.25),  # 5.8 years of a tenth of 232 years
    (AGE, (20, 29), [27], 0),
    (AGE, (20, 29), [34.8], 0.25),
    (AGE, (20, 29), [14.2], 0.25),
    (AGE, 30, [100], 1),
]


@pytest.mark.parametrize(("attribute", "raw", "prediction", "expected"), BAD)
def test_how_bad_a_prediction_is(attribute, raw, prediction, expected):
    found = attribute.badness(attribute.parse(raw), np.array(prediction, np.float32))
    assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("count", [6, 200])
def test_the_best_and_the_worst_of_all_are_kept_in_order(count):
    evaluator, ranks = Evaluator(CATEGORIES, ATTRIBUTES), {}
    for labels, found, guess, record, result in random_people(count):
        evaluator.add(record, result)
        if not found:
            continue
        p = guess[1] if labels["gender"] == "male" else 1 - guess[1]
        errors = [1 - p]
        if labels["age"] is not None:
            errors.append(min(abs(guess[0] - labels["age"]) / 23.2, 1))
        ranks[record.file_name] = sum(errors) / len(errors)
    order = sorted(ranks, key=ranks.__getitem__)
    best, worst = evaluator.cases.best, evaluator.cases.worst
    assert [case.record.file_name for case in best] == order[:9]
    assert [case.record.file_name for case in worst] == order[::-1][:9]
    for case in (*best, *worst):
        labels = case.instance.attributes
        known = {"gender", "age"} & set(labels)
        assert set(case.labels) == set(case.predictions) == known
        for a, b in zip(case.labels["gender"], labels["gender"], strict=True):
            np.testing.assert_array_equal(a, b)


def test_poses_without_other_attributes_make_no_cases():
    evaluator = Evaluator(CATEGORIES, from_config({"head": {"kind": "pose"}}))
    for *_, record, result in random_people(20):
        evaluator.add(record, result)
    assert evaluator.cases.best == evaluator.cases.worst == []
