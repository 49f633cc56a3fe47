"""Calibration against values computed by hand."""

import numpy as np
import pytest

from mtl_jax.evals.calibration import calibration


def test_detections_are_counted_by_score_and_compared_with_it():
    found = calibration((0.1, 0.7, 0.6, 1.0), (False, True, False, True), 2)
    np.testing.assert_array_equal(found.counts, [1, 3])
    np.testing.assert_array_equal(found.hits, [0, 2])
    # The low bin has 0 correct and mean score 0.1, the high bin 2 / 3 and 2.3 / 3.
    assert found.error == pytest.approx((1 * 0.1 + 3 * (2.3 - 2) / 3) / 4)


def test_a_range_begins_with_its_lower_end():
    found = calibration((0.0, 0.5, 0.49), (True, True, False), 4)
    np.testing.assert_array_equal(found.counts, [1, 1, 1, 0])


def test_without_detections_the_error_is_zero():
    assert calibration((), (), 3).error == 0
