"""The regression of face rectangles, compared with NumPy loops and on drawn heads."""

from functools import partial

import jax
import numpy as np
import oracles
import pytest
from drawn_faces import SIDE, batch_of, drawn_scenes
from faces import DECLARED

from mtl_jax.config.options.hyperface import FACE_TEMPLATE, HyperFaceOptions
from mtl_jax.models.hyperface.face_rectangle import MOMENTUM, NAME, NOISE, first_rectangle, follow
from mtl_jax.models.hyperface.face_rectangle import rectangle_of as rectangle

TEMPLATE = np.array(FACE_TEMPLATE)
ALL = HyperFaceOptions(trunk="resnet", input_size=SIDE, hidden_points=True)
SEEN = HyperFaceOptions(trunk="resnet", input_size=SIDE)
(FACE,) = (a for a in DECLARED if a.name == "face")


def learn(batches, options, **changes):
    """Fit the regression to batches of boxes and predicted points."""
    stats = first_rectangle(options)
    step = jax.jit(partial(follow, options=options))
    for boxes, points in batches:
        stats = step(stats, found=points, batch=batch_of(boxes, **changes))
    return rectangle({"batch_stats": stats}), stats[NAME]


def place(face, points, options):
    counts = (points[..., 2] > 0.5) | options.hidden_points
    template = TEMPLATE.astype(np.float32)
    return np.asarray(jax.jit(type(face).place)(face, template, points[..., :2], counts))


def frame_of(points, counts):
    """Fit the template to a face by `lstsq`: x' = c x - s y + u, y' = s x + c y + v."""
    t, p = TEMPLATE[counts], points[counts]
    one, zero = np.ones(len(t)), np.zeros(len(t))
    rows = [np.stack([t[:, 0], -t[:, 1], one, zero], -1)]
    rows += [np.stack([t[:, 1], t[:, 0], zero, one], -1)]
    c, s, u, v = np.linalg.lstsq(np.concatenate(rows), p.T.ravel(), rcond=None)[0]
    return np.array([[c, -s], [s, c]]), np.array([u, v])


def shape_of(points, counts):
    matrix, shift = frame_of(points, counts)
    back = (points - shift) @ np.linalg.inv(matrix).T - TEMPLATE
    return np.r_[(np.clip(back, -1, 1) * counts[:, None]).ravel(), counts]


def rectangle_in_template(box, points, counts):
    matrix, shift = frame_of(points, counts)
    middle = np.linalg.inv(matrix) @ ((box[:2] + box[2:]) / 2 - shift)
    return np.r_[middle, (box[2:] - box[:2]) / np.sqrt(np.linalg.det(matrix))]


def made_up(rows, seed):
    """Draw faces with random points, some of them hidden, and random boxes."""
    rng = np.random.default_rng(seed)
    turn = rng.uniform(-0.5, 0.5, rows)
    matrices = 12 * np.stack([np.cos(turn), -np.sin(turn), np.sin(turn), np.cos(turn)], -1)
    moved = TEMPLATE + rng.normal(0, 0.2, (rows, 21, 2))
    points = moved @ matrices.reshape(rows, 2, 2).swapaxes(1, 2) + rng.uniform(
        60, 130, (rows, 1, 2)
    )
    half = rng.uniform(20, 26, (rows, 2))
    middle = points.mean(1) + rng.uniform(-4, 4, (rows, 2))
    visible = rng.random((rows, 21)) < 0.7
    boxes = np.concatenate([middle - half, middle + half], -1)
    return boxes, np.concatenate([points, visible[..., None]], -1).astype(np.float32)


@pytest.mark.parametrize("options", [ALL, SEEN])
def test_the_regression_is_that_of_least_squares_with_noise(options):
    batches = [made_up(40, seed) for seed in range(3)]
    face, _ = learn(batches, options)
    boxes, points = (np.concatenate(parts).astype(float) for parts in zip(*batches, strict=True))
    counts = (points[..., 2] > 0) | options.hidden_points
    each = list(zip(boxes, points[..., :2], counts, strict=True))
    x = np.array([shape_of(p, c) for _, p, c in each])
    y = np.array([rectangle_in_template(*one) for one in each])
    # Ridge regression, written as least squares with additional rows.
    rows = np.concatenate([x - x.mean(0), np.sqrt(NOISE * len(x)) * np.eye(63)])
    targets = np.concatenate([y - y.mean(0), np.zeros((63, 4))])
    slopes = np.linalg.lstsq(rows, targets, rcond=None)[0]
    assert np.abs(slopes).max() > 0.05
    np.testing.assert_allclose(face.slopes, slopes, atol=2e-3)
    np.testing.assert_allclose(face.rectangle, y.mean(0), atol=1e-3)
    _, faces = made_up(20, 9)
    found = place(face, faces, options)
    for row, points in zip(found, faces.astype(float), strict=True):
        count = (points[:, 2] > 0) | options.hidden_points
        r = y.mean(0) + (shape_of(points[:, :2], count) - x.mean(0)) @ slopes
        matrix, shift = frame_of(points[:, :2], count)
        middle, half = matrix @ r[:2] + shift, np.sqrt(np.linalg.det(matrix)) * r[2:] / 2
        np.testing.assert_allclose(row, np.r_[middle - half, middle + half], atol=0.1)


def overlap_with_truth(face, options):
    boxes, points = drawn_scenes(25, seed=2).heads()
    found = np.clip(place(face, points, options), 0, SIDE)
    return np.array([oracles.iou([a], [b])[0][0] for a, b in zip(found, boxes, strict=True)])


@pytest.mark.parametrize(("options", "mean", "misses"), [(ALL, 0.8, 0.02), (SEEN, 0.72, 0.1)])
def test_the_points_of_a_drawn_head_determine_its_box(options, mean, misses):
    """A constant rectangle misses many heads, even with exact points."""
    boxes, points = drawn_scenes(80, seed=0).heads()
    face, _ = learn([(boxes, points)], options)
    overlap = overlap_with_truth(face, options)
    assert overlap.mean() > mean
    assert (overlap < 0.5).mean() <= misses
    alone = overlap_with_truth(face._replace(slopes=0 * face.slopes), options)
    assert (alone < 0.5).mean() > (overlap < 0.5).mean() + 0.03
    assert alone.mean() < overlap.mean() - 0.1


def test_hidden_points_only_count_if_they_are_trained():
    boxes, points = made_up(40, 0)
    junk = np.where(points[..., 2:] > 0, points, [[[1e5, -1e5, 0]]])
    for options, same in ((SEEN, True), (ALL, False)):
        stats = [learn([(boxes, p)], options)[1] for p in (points, junk)]
        assert np.array_equal(stats[0]["slopes"], stats[1]["slopes"]) is same


def test_batches_without_a_whole_face_have_no_effect_and_the_others_are_averaged():
    boxes, points = made_up(40, 0)
    other = boxes + 5, points
    beyond = np.where(np.arange(4) < 2, -0.5, boxes)
    first = learn([(boxes, points)], ALL)[1]
    same = learn([(boxes, points), (beyond, points)], ALL)[1]
    jax.tree.map(np.testing.assert_array_equal, first, same)
    none = learn([(boxes, points)], ALL, valid=np.zeros(40, bool))[1]
    jax.tree.map(np.testing.assert_array_equal, none, first_rectangle(ALL)[NAME])
    # The first 1 / (1 - MOMENTUM) batches have equal weights; later ones have weight 1 - MOMENTUM.
    single = learn([other], ALL)[1]["rectangle"]
    many = learn([(boxes, points)] * 60 + [other], ALL)[1]["rectangle"]
    expected = MOMENTUM * first["rectangle"] + (1 - MOMENTUM) * single
    np.testing.assert_allclose(many, expected, atol=1e-5)


def test_one_outlier_has_little_effect():
    boxes, points = made_up(40, 0)
    wild = boxes.copy()
    wild[3] = (2, 2, 190, 190)
    tame, moved = (learn([(b, points)], ALL)[0] for b in (boxes, wild))
    assert np.abs(moved.rectangle - tame.rectangle).max() < 0.1
