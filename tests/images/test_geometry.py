"""Transforms of points and boxes."""

import numpy as np
import pytest

from mtl_jax.images.geometry import Geometry


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_geometry_inverse_undoes_it(sign):
    geometry = Geometry(1.5 * sign, 0.7, 12.0, -3.0)
    points = np.random.default_rng(0).uniform(0, 100, (20, 2))
    np.testing.assert_allclose(geometry.inverse().points(geometry.points(points)), points)
    boxes = np.array([[1.0, 2.0, 30.0, 40.0]])
    moved = geometry.boxes(boxes)
    assert (moved[:, :2] < moved[:, 2:]).all()
    np.testing.assert_allclose(geometry.inverse().boxes(moved), boxes)
