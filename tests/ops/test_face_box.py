"""Face rectangles against algebra: rotated, scaled and translated templates, and lstsq."""

import numpy as np
import pytest

from mtl_jax.ops.face_box import (
    deviations,
    find_rectangle,
    fit_similarity,
    place_rectangle,
)

RNG = np.random.default_rng(0)
TEMPLATE = RNG.normal(size=(21, 2)).astype(np.float32)
RECTANGLE = np.array([0.2, -0.1, 3.0, 4.0], np.float32)


def rotated(degrees, scale, shift):
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return scale * TEMPLATE @ np.array([[cos, sin], [-sin, cos]]) + shift


@pytest.mark.parametrize("visible", [21, 4, 2])
def test_a_rotated_template_is_fitted_to_its_visible_points(visible):
    points = rotated(30, 20, (70, 50)).astype(np.float32)
    weights = (np.arange(21) < visible).astype(np.float32)
    points[visible:] = 1e6  # hidden points can be anywhere
    points = np.where(weights[:, None] > 0, points, 1e3).astype(np.float32)
    found = fit_similarity(TEMPLATE, points[None], weights[None])
    np.testing.assert_allclose(found.scale, [20], rtol=1e-4)
    np.testing.assert_allclose(np.degrees(np.arctan2(found.sin, found.cos)), [30], rtol=1e-4)
    np.testing.assert_allclose(found.shift, [[70, 50]], rtol=1e-4)
    box = np.asarray(place_rectangle(found, RECTANGLE[None]))[0]
    # By hand: the centre (0.2, -0.1) rotated by 30 degrees, times 20, and half of 60 x 80.
    x = 70 + 20 * (0.2 * np.cos(np.pi / 6) + 0.1 * np.sin(np.pi / 6))
    y = 50 + 20 * (0.2 * np.sin(np.pi / 6) - 0.1 * np.cos(np.pi / 6))
    np.testing.assert_allclose(box, [x - 30, y - 40, x + 30, y + 40], rtol=1e-4)


def test_noisy_points_are_fitted_as_by_linear_least_squares():
    points = rotated(-50, 8, (3, 4)) + RNG.normal(size=(21, 2))
    weights = RNG.uniform(0, 1, 21)
    # x' = c x - s y + u, y' = s x + c y + v: linear in c, s, u, v
    x, y = TEMPLATE.astype(float).T
    one, zero = np.ones(21), np.zeros(21)
    rows = (
        np.concatenate([np.stack([x, -y, one, zero], -1), np.stack([y, x, zero, one], -1)])
        * np.sqrt(np.tile(weights, 2))[:, None]
    )
    expected = np.concatenate([points[:, 0], points[:, 1]]) * np.sqrt(np.tile(weights, 2))
    c, s, u, v = np.linalg.lstsq(rows, expected, rcond=None)[0]
    arrays = [a.astype(np.float32) for a in (points[None], weights[None])]
    found = fit_similarity(TEMPLATE, *arrays)
    got = [found.cos[0], found.sin[0], *found.shift[0]]
    np.testing.assert_allclose(got, [c, s, u, v], rtol=1e-4, atol=1e-4)


def test_rectangles_are_found_back():
    points = np.stack([rotated(d, 10 + d, (d, 3)) for d in (0, 40, -80)]).astype(np.float32)
    boxes = RNG.uniform(0, 50, (3, 4)).astype(np.float32)
    boxes[:, 2:] += boxes[:, :2]
    points[2] = points[2, 0]  # all at one position: no scale
    points[1] = rotated(40, 50, (40, 3))
    found = fit_similarity(TEMPLATE, points, np.ones((3, 21), np.float32))
    rectangles = np.asarray(find_rectangle(found, boxes))
    for i in (0, 1):
        again = place_rectangle(type(found)(*(a[i : i + 1] for a in found)), rectangles[i : i + 1])
        np.testing.assert_allclose(again[0], boxes[i], rtol=1e-3, atol=1e-3)


def test_deviations_are_the_residuals_of_the_similarity():
    """Points are moved in the template's frame, then rotated, scaled and translated. The moves
    contain no translation, rotation or scale, so they are the deviations.
    """
    moves = RNG.normal(0, 0.1, (21, 2))
    centred = TEMPLATE - TEMPLATE.mean(0)
    rotated_by_90 = centred[:, ::-1] * [-1, 1]
    right, down = (np.tile(axis, (21, 1)) for axis in np.eye(2))
    for direction in (right, down, centred, rotated_by_90):
        moves -= direction * (direction * moves).sum() / (direction**2).sum()
    cos, sin = 20 * np.cos(0.5), 20 * np.sin(0.5)
    points = (TEMPLATE + moves) @ np.array([[cos, sin], [-sin, cos]]) + (70, 50)
    points, ones = points[None].astype(np.float32), np.ones((1, 21), np.float32)
    found = fit_similarity(TEMPLATE, points, ones)
    np.testing.assert_allclose(deviations(found, TEMPLATE, points, ones)[0], moves, atol=1e-5)
    few = ones * (np.arange(21) < 5)
    points[0, 5:] = np.inf
    found = fit_similarity(TEMPLATE, np.where(few[..., None] > 0, points, 0), few)
    left = np.asarray(deviations(found, TEMPLATE, points, few))
    assert (left[0, 5:] == 0).all()
    assert np.isfinite(left).all()


@pytest.mark.parametrize("visible", [0, 1])
def test_too_few_points_have_a_finite_box_without_area(visible):
    weights = (np.arange(21) < visible).astype(np.float32)[None]
    found = fit_similarity(TEMPLATE, np.full((1, 21, 2), 5, np.float32), weights)
    box = np.asarray(place_rectangle(found, RECTANGLE[None]))[0]
    assert np.isfinite(box).all()
    assert (box[2:] - box[:2]).max() < 1e-3
    assert np.isfinite(find_rectangle(found, box[None])).all()
