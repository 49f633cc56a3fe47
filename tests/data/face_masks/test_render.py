"""Masks on faces: position, unchanged pixels, and light."""

import cv2
import numpy as np
import pytest
from faces import ibug
from mistakes import refused
from real_data import data_set

from mtl_jax.attributes.vocabulary import LANDMARKS
from mtl_jax.data.face_masks import render
from mtl_jax.data.face_masks.fit import Fit, Frame, chip_frame, frame_of, grid_of
from mtl_jax.data.face_masks.render import (
    Wearing,
    draw_wearing,
    inverse_bilinear,
    put_on,
    straps_of,
)
from mtl_jax.data.face_masks.textures import BANK, KINDS, texture
from mtl_jax.data.face_points import from_ibug
from mtl_jax.data.synthetic.hair import random_hair
from mtl_jax.data.synthetic.heads import draw_head
from mtl_jax.data.synthetic.looks import random_look

LUMA = np.array((0.299, 0.587, 0.114))


def overlap(a, b):
    return (a & b).sum() / (a | b).sum()


def wearing(kind="surgical", seed=0, **fit):
    found = draw_wearing(np.random.default_rng(seed))
    return found._replace(kind=kind, fit=Fit()._replace(**fit))


def gray(side=120, level=150):
    return np.full((side, side, 3), level, np.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_covers_nose_and_mouth_and_leaves_the_eyes(kind):
    points = ibug(center=(100.0, 90.0), width=110.0)
    frame = frame_of(points)
    outline = put_on(gray(200), frame, wearing(kind)).outline
    x, y = np.rint([frame.tip, frame.mouth]).astype(int).T
    assert outline[y, x].all()
    eyes = np.rint(points[36:48]).astype(int)
    assert not outline[eyes[:, 1], eyes[:, 0]].any()


@pytest.mark.parametrize("kind", KINDS)
def test_worn_below_the_nose_it_leaves_the_nose(kind):
    frame = chip_frame(160, 160)
    outline = put_on(gray(160), frame, wearing(kind, below_nose=True)).outline
    (nose_x, nose_y), (x, y) = np.rint([frame.tip, frame.mouth]).astype(int)
    assert not outline[nose_y, nose_x]
    assert outline[y + 2, x]


def test_pixels_away_from_the_mask_stay_to_the_bit():
    image = np.random.default_rng(0).integers(0, 256, (160, 160, 3), np.uint8)
    before = image.copy()
    done = put_on(image, chip_frame(160, 160), wearing("kn95"))
    np.testing.assert_array_equal(image, before)
    changed = (done.image != image).any(-1)
    frame = chip_frame(160, 160)
    assert changed[done.outline].mean() > 0.98
    assert not changed[: int(frame.bridge[1]) - 8].any()


def test_edges_are_soft(monkeypatch):
    def between():
        done = put_on(gray(200), chip_frame(200, 200), wearing("surgical"))
        changed = np.abs(done.image.astype(float) - 150).max(-1)
        disc = np.ones((5, 5), np.uint8)
        inside = done.outline.astype(np.uint8)
        edge = (cv2.dilate(inside, disc) - cv2.erode(inside, disc)) > 0
        whole = np.median(changed[cv2.erode(inside, disc) > 0])
        return ((changed > 0.3 * whole) & (changed < 0.7 * whole))[edge].mean()

    soft = between()
    monkeypatch.setattr(render, "_soft", lambda alpha, *_: alpha)
    assert soft > 2 * between()
    assert soft > 0.1


def test_inverse_bilinear_undoes_the_forward_map():
    rng = np.random.default_rng(1)
    square = np.array([[0, 0], [40, 0], [40, 40], [0, 40]], float)
    a, b, c, d = square + rng.uniform(-12, 12, (4, 2))
    u, v = rng.uniform(0, 1, (2, 50))
    across = np.outer(1 - u, a) + np.outer(u, b), np.outer(1 - u, d) + np.outer(u, c)
    points = (1 - v)[:, None] * across[0] + v[:, None] * across[1]
    panel = np.concatenate([a, b - a, d - a, a - b + c - d])[:, None].repeat(50, 1)
    found = inverse_bilinear(panel, *points.T)
    np.testing.assert_allclose(found, (u, v), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_face_from_the_front_has_a_symmetric_mask(kind):
    moved = np.array([0.6, 0.0])  # to the middle, x = 100
    frame = Frame(*(part + moved for part in chip_frame(200, 200)))
    outline = put_on(gray(200), frame, wearing(kind)).outline
    assert overlap(outline, outline[:, ::-1]) > 0.98


def test_the_mask_rotates_with_the_image():
    points = ibug(center=(100.0, 95.0), width=100.0)
    image = np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)
    plain = put_on(image, frame_of(points), wearing("cloth")).outline
    turned = np.stack([200 - points[:, 1], points[:, 0]], -1)  # by 90 degrees, clockwise
    found = put_on(np.rot90(image, -1).copy(), frame_of(turned), wearing("cloth")).outline
    assert overlap(np.rot90(found), plain) > 0.95


def test_twentyone_points_give_nearly_the_mask_of_sixtyeight():
    points = ibug(center=(100.0, 95.0), width=100.0)
    few = [(np.nan, np.nan) if p is None else p[:2] for p in from_ibug(points)]
    masks = [put_on(gray(200), frame_of(p), wearing()).outline for p in (points, np.array(few))]
    assert overlap(*masks) > 0.7


@pytest.mark.parametrize("yaw", [-80, -50, 50, 80])
def test_hidden_points_of_a_turned_head_hardly_change_its_mask(yaw):
    found = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        look = random_look(rng.uniform(15, 70), ("male", "female")[seed % 2], "none", rng)
        head = draw_head(look, random_hair(look, rng, seed), (yaw, 0.0, 0.0), 200, rng)
        hidden = ~head.visible
        hidden[LANDMARKS.index("left_ear" if yaw < 0 else "right_ear")] = False  # by hair, at most
        assert hidden.sum() >= 2
        few = np.where(hidden[:, None], np.nan, head.points)
        masks = [put_on(gray(400), frame_of(p), wearing()).outline for p in (head.points, few)]
        found.append(overlap(*masks))
    assert np.mean(found) > 0.85
    assert min(found) > 0.7


def test_points_other_than_a_faces_are_refused():
    with refused(5, 68, 21, error=ValueError):
        frame_of(np.zeros((5, 2)))
    broken = ibug()
    broken[8] = np.nan
    with refused(error=ValueError):
        frame_of(broken)
    few = np.full((21, 2), np.nan)
    few[:6] = ibug()[17:23]
    with refused(error=ValueError):
        frame_of(few)


def test_a_larger_and_a_looser_mask_reach_farther():
    frame = chip_frame(200, 200)

    def width(**fit):
        grid = grid_of(frame, Fit()._replace(**fit))
        return grid[1, 4, 0] - grid[1, 0, 0]

    assert width(size=1.1) == pytest.approx(1.1 * width(), rel=1e-6)
    assert width(tightness=0.0) == pytest.approx(width() + 2 * 0.06 * frame.width, rel=1e-2)


def test_a_mask_has_the_light_of_its_image():
    frame = chip_frame(160, 160)

    def brightness(image):
        done = put_on(image, frame, wearing("kn95"))
        half = np.arange(160) < 80
        inside = done.outline & cv2.erode(done.outline.astype(np.uint8), np.ones((9, 9))).astype(
            bool
        )
        return [done.image[inside & side].mean() for side in (half, ~half)]

    dark, bright = brightness(gray(160, 50)), brightness(gray(160, 160))
    assert np.mean(dark) < 0.7 * np.mean(bright)
    ramp = np.linspace(60, 220, 160, dtype=np.uint8)[None, :, None].repeat(160, 0).repeat(3, 2)
    left, right = brightness(ramp)
    even = brightness(gray(160, 140))
    assert left / even[0] < 0.9
    assert right / even[1] > 1.05


def test_gray_images_stay_gray():
    image = np.random.default_rng(0).integers(60, 200, (96, 96, 1), np.uint8)
    done = put_on(image, chip_frame(96, 96), wearing("cloth"))
    assert done.image.shape == image.shape
    color = put_on(image.repeat(3, 2), chip_frame(96, 96), wearing("cloth")).image
    luma = color @ np.array([0.299, 0.587, 0.114])
    assert np.abs(done.image[..., 0] - luma).max() < 3


def test_a_bank_has_different_masks_and_is_deterministic():
    for kind in KINDS:
        assert len({texture(kind, n).color.tobytes() for n in range(6)}) == 6
        again = texture.__wrapped__(kind, 3)
        np.testing.assert_array_equal(again.color, texture(kind, 3).color)
    drawn = [draw_wearing(np.random.default_rng(i)) for i in range(300)]
    counts = [sum(w.kind == kind for w in drawn) for kind in KINDS]
    assert min(counts) > 30
    assert 20 < sum(w.fit.below_nose for w in drawn) < 80
    assert all(0 <= w.number < BANK for w in drawn)


@pytest.mark.parametrize("yaw", [-90, -60, -30, 0, 30, 60, 90])
def test_a_turned_head_wears_its_mask_on_the_side_of_its_nose(yaw):
    # Points on a nearly spherical head, turned about the upright axis.
    front = ibug(center=(0.0, 0.0), width=1.0)
    depth = 0.55 * np.sqrt(np.clip(1 - (front[:, 0] / 0.52) ** 2, 0, None))
    depth[27:36] += 0.12
    turn = np.radians(-yaw)
    x = front[:, 0] * np.cos(turn) + depth * np.sin(turn)
    points = np.stack([100 + 100 * x, 95 + 100 * front[:, 1]], -1)
    outline = put_on(gray(200), frame_of(points), wearing("n95")).outline
    assert outline.sum() > 800
    middle = np.nonzero(outline)[1].mean() - 100
    if yaw:
        assert np.sign(middle) == -np.sign(yaw)  # yaw > 0: the nose points to the image's left
    else:
        assert abs(middle) < 3


def test_an_image_without_colours_gets_none():
    color = np.random.default_rng(0).integers(60, 200, (120, 120, 1), np.uint8).repeat(3, 2)
    frame = frame_of(ibug((60.0, 60.0), 60.0))
    for number in range(12):
        found = put_on(color, frame, Wearing("cloth", number, Fit())).image
        assert found.shape == color.shape
        assert np.ptp(found.astype(int), axis=2).max() <= 1
        assert (found != color).any()


def test_a_photograph_of_one_tint_keeps_to_it():
    """For every colour of the mask, a channel is the brightness times its factor in sepia."""
    light = np.random.default_rng(0).integers(60, 200, (120, 120, 1)).repeat(3, 2)
    sepia = np.array((1.15, 1.0, 0.8))
    image = (light * sepia).astype(np.uint8)
    frame = frame_of(ibug((60.0, 60.0), 60.0))
    for number in range(12):
        done = put_on(image, frame, Wearing("cloth", number, Fit()))
        worn = done.image[done.outline].astype(float)
        worn = worn[(worn.max(1) < 250)]
        np.testing.assert_allclose(worn, worn @ LUMA[:, None] * sepia / (LUMA @ sepia), atol=3)


def test_from_the_front_a_mask_has_one_strap_on_each_side():
    front, size = chip_frame(200, 200), (200, 200)
    grid = grid_of(front, Fit())
    straps = straps_of(grid, front.jaws, front.width, size)
    for column, jaw in ((0, 0), (4, 1)):
        x, y = np.rint((grid[0, column] + front.jaws[jaw, 0]) / 2).astype(int)
        assert 1 <= (straps[y, x - 15 : x + 16] > 127).sum() <= 4


def test_in_profile_the_hidden_ear_has_no_strap():
    points = ibug((60.0, 60.0), 60.0)
    points[:, 0] = 60 + 0.5 * (points[:, 0] - 60)
    points[27:36, 0] += 24  # a nose beyond both jaws
    points[48:, 0] += 12
    frame = frame_of(points)
    straps = straps_of(grid_of(frame, Fit()), frame.jaws, frame.width, (120, 120))
    ends = [straps[y - 4 : y + 5, x - 4 : x + 5].any() for x, y in frame.jaws[:, 0].astype(int)]
    assert ends == [True, False]


def test_real_chips_wear_masks_where_their_mouths_are():
    folder = data_set("ytfaces68_udacity")
    table = (folder / "keypoints.csv").read_text().splitlines()[1:20]
    images = {path.name: path for path in folder.rglob("*.jpg")}
    for i, line in enumerate(table):
        name, *numbers = line.split(",")
        points = np.array(numbers, float).reshape(68, 2)
        image = cv2.imread(str(images[name.split("/")[-1]]))
        outline = put_on(image, frame_of(points), wearing("surgical", seed=i)).outline
        mouth = np.rint(points[48:]).astype(int)
        eyes = np.rint(points[36:48]).astype(int)
        assert outline[mouth[:, 1], mouth[:, 0]].mean() > 0.9
        assert outline[eyes[:, 1], eyes[:, 0]].mean() < 0.1
