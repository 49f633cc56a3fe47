import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from mistakes import refused

from mtl_jax.attributes.declarations import from_config
from mtl_jax.results import Result
from mtl_jax.visualize.drawing.draw import draw, enlarge, head_axes, label_lines
from mtl_jax.visualize.drawing.labels import Labels
from mtl_jax.visualize.drawing.palette import class_color, text_color

ATTRIBUTES = from_config(
    {
        "age": {"kind": "continuous", "range": (0, 116)},
        "head": {"kind": "pose", "angles": ("yaw", "pitch")},
        "face": {"kind": "landmarks", "points": ("a", "b")},
    }
)
YELLOW = (255, 235, 0)


def result_of(boxes, height, width, names=None, scores=None, masks=None, attributes=None):
    count = len(boxes)
    return Result(
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        scores=np.linspace(0.99, 0.9, count) if scores is None else np.array(scores),
        classes=np.ones(count, int),
        class_names=tuple(names or ["cat"] * count),
        category_ids=np.ones(count, int),
        height=height,
        width=width,
        mask_probabilities=masks,
        attributes=attributes or {},
        declared=ATTRIBUTES if attributes else (),
    )


def full_attributes(count, points=(-1, -1, 1, -1, -1, 1)):
    return {
        "age": np.full((count, 1), 33.0),
        "head": np.tile([20.0, -10.0], (count, 1)),
        "face": np.tile(np.array(points, float), (count, 1)),
    }


def noise(height, width, channels=3):
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)


def test_the_given_image_is_not_modified():
    image = noise(90, 120)
    before = image.copy()
    drawn = draw(image, result_of([(10, 10, 60, 60)], 90, 120, masks=np.ones((1, 28, 28))))
    np.testing.assert_array_equal(image, before)
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8
    assert (drawn != image).any()


def test_without_detections_nothing_is_drawn():
    image = noise(40, 50)
    np.testing.assert_array_equal(draw(image, result_of([], 40, 50)), image)
    weak = result_of([(5, 5, 30, 30)], 40, 50, scores=[0.3])
    np.testing.assert_array_equal(draw(image, weak), image)
    assert (draw(image, weak, min_score=0.2) != image).any()


def test_the_box_has_the_class_s_colour_and_the_inside_keeps_its_pixels():
    image = np.zeros((200, 200, 3), np.uint8)
    drawn = draw(image, result_of([(50, 60, 150, 180)], 200, 200, ["dog"]))
    for y, x in ((179, 100), (120, 50), (120, 149), (60, 149)):
        assert tuple(drawn[y, x]) == class_color("dog")
    assert not drawn[70:170, 60:140].any()
    assert not drawn[182:].any()
    assert not drawn[:, 152:].any()


def test_the_mask_is_blended_where_it_is_and_nowhere_else():
    image = np.full((200, 200, 3), 100, np.uint8)
    masks = np.zeros((1, 28, 28), np.float32)
    masks[0, :, :14] = 1  # the left half
    drawn = draw(image, result_of([(40, 40, 160, 160)], 200, 200, masks=masks))
    expected = 0.6 * 100 + 0.4 * np.array(class_color("cat"))
    np.testing.assert_allclose(drawn[80:140, 60:90].reshape(-1, 3), [expected] * 1800, atol=1)
    assert (drawn[80:140, 110:150] == 100).all()


def test_landmarks_are_filled_where_visible_and_hollow_where_hidden():
    image = np.zeros((400, 400, 3), np.uint8)
    attributes = full_attributes(1, (120, 300, 0.9, 280, 300, 0.1))
    drawn = draw(image, result_of([(50, 50, 350, 350)], 400, 400, attributes=attributes))
    assert tuple(drawn[300, 120]) == YELLOW
    assert tuple(drawn[300, 280]) == (0, 0, 0)
    ring = drawn[290:311, 270:291].astype(int)
    assert (np.abs(ring - YELLOW).sum(-1) < 60).any()


@pytest.mark.parametrize(
    ("angles", "nose"),
    [
        ({"yaw": 60}, (-1, 0)),  # to the left of the image
        ({"pitch": 60}, (0, -1)),  # up
        ({"yaw": -90, "roll": 45}, (1, 0)),
        ({}, (0, 0)),
    ],
)
def test_the_nose_points_as_the_angles_specify(angles, nose):
    x, y = head_axes(**angles)[2, :2]
    direction = np.array([x, y]) / max(np.hypot(x, y), 1e-9) if np.hypot(x, y) > 1e-6 else (0, 0)
    np.testing.assert_allclose(direction, nose, atol=1e-6)


def test_roll_turns_the_top_of_the_head_clockwise_and_axes_stay_orthogonal():
    np.testing.assert_allclose(head_axes(roll=90)[1], [1, 0, 0], atol=1e-9)  # up is right now
    axes = head_axes(20, -40, 70)
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(head_axes(30, 0, 0)[2], [-0.5, 0, -np.sqrt(0.75)], atol=1e-9)


def test_colours_depend_on_the_name_alone_in_every_process():
    names = ["head", "face", "person", "circle", "square", "triangle", "balloon"]
    colors = [class_color(name) for name in names]
    far = [
        sum(abs(a - b) for a, b in zip(colors[i], colors[j], strict=True))
        for i in range(len(names))
        for j in range(i)
    ]
    assert min(far) > 60
    code = (
        "from mtl_jax.visualize.drawing.palette import class_color as c; "
        f"print([c(n) for n in {names}] == {colors})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def luminance(color):
    parts = np.array(color) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_text_contrasts_with_the_colour_of_every_class():
    for i in range(300):
        background = class_color(f"class {i}")
        a, b = luminance(background), luminance(text_color(background))
        assert (max(a, b) + 0.05) / (min(a, b) + 0.05) >= 4.5  # WCAG 2.1, level AA


@pytest.mark.parametrize("size", [(20, 30), (128, 128), (90, 700), (700, 90), (1500, 1100)])
def test_labels_stay_inside_the_image_and_apart(size):
    height, width = size
    rng = np.random.default_rng(0)
    corners = rng.uniform(-0.1, 0.9, (30, 2)) * (width, height)
    boxes = np.concatenate([corners, corners + rng.uniform(0, 0.4, (30, 2)) * (width, height)], 1)
    boxes = np.clip(boxes, 0, [width, height, width, height])
    labels = Labels(height, width, boxes)
    covered = np.zeros((height, width), int)
    lines = ["a class of long name 0.93", "age 33"]
    for i, box in enumerate(boxes):
        image = np.zeros((2 * height, 2 * width, 3), np.uint8)  # larger, to detect overflow
        written = labels.put(image, box, f"{i}", lines, class_color(f"{i}"))
        y, x = np.nonzero(image.any(-1))
        assert written == bool(len(x))
        if written:
            assert y.max() < height
            assert x.max() < width
            covered[y.min() : y.max() + 1, x.min() : x.max() + 1] += 1
        assert i or written
    assert covered.max() == 1


def test_the_label_shows_class_score_and_attributes():
    result = result_of([(5, 5, 50, 50)], 60, 60, ["cat"], [0.934], None, full_attributes(1))
    assert label_lines(result, 0) == ["cat 0.93", "age 33", "yaw +20 pitch -10"]


@pytest.mark.parametrize("channels", [1, 2, 3, 6])
def test_any_number_of_channels_is_drawn_on(channels):
    image = noise(60, 70, channels)
    drawn = draw(image, result_of([(10, 30, 40, 55)], 60, 70))
    assert drawn.shape == (60, 70, 3)
    shown = image if channels == 3 else np.repeat(image.mean(-1, keepdims=True), 3, -1)
    np.testing.assert_array_equal(drawn[:, 60:], shown.astype(np.uint8)[:, 60:])
    np.testing.assert_array_equal(
        draw(image[..., 0], result_of([], 60, 70)), np.repeat(image[..., :1], 3, -1)
    )


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (13, 400)])
def test_odd_sizes_and_degenerate_boxes_are_drawn(size):
    height, width = size
    boxes = [(0, 0, width, height), (0, 0, 0, 0), (width, height, width, height)]
    attributes = full_attributes(3, (1e9, -1e9, 1, np.nan, 0, 0))
    masks = np.ones((3, 28, 28), np.float32)
    result = result_of(boxes, height, width, ["Bär", "猫", ""], None, masks, attributes)
    assert draw(noise(height, width), result).shape == (height, width, 3)


def test_a_small_image_is_enlarged_with_its_result():
    points = np.array([[10.0, 20.0, 1.0, 30.0, 40.0, 0.0]])
    small = result_of(
        [(1, 2, 40, 47)],
        48,
        40,
        masks=np.ones((1, 28, 28)),
        attributes={**full_attributes(1), "face": points},
    )
    image, result = enlarge(noise(48, 40), small)
    assert image.shape == (288, 240, 3)
    np.testing.assert_array_equal(image[::6, ::6], noise(48, 40))
    np.testing.assert_array_equal(result.boxes, [[6, 12, 240, 282]])
    np.testing.assert_array_equal(result.attributes["face"], [[60, 120, 1, 180, 240, 0]])
    np.testing.assert_array_equal(result.attributes["head"], small.attributes["head"])
    assert result.masks.sum() == pytest.approx(36 * small.masks.sum(), rel=0.1)
    label = (draw(image, result) == class_color("cat")).all(-1).mean()
    assert label < 0.5
    kept = noise(128, 128)
    assert enlarge(kept, small)[0] is kept
    part = result_of([(8, 4, 40, 44)], 48, 48)
    assert enlarge(noise(48, 48), part)[1] is part


def test_an_image_of_another_size_is_refused():
    with refused("40 x 30", error=ValueError):
        draw(noise(30, 40), result_of([], 40, 30))


def test_in_a_crowd_each_class_is_named_once_whatever_its_colour():
    boxes = np.array([[0, 0, 200, 200]] * 900)
    labels = Labels(200, 200, boxes)
    image = np.zeros((200, 200, 3), np.uint8)
    color = class_color("person")
    written = [labels.put(image, boxes[0], name, [name], color) for name in ("a", "a", "b")]
    assert written == [True, False, True]


def test_points_are_filled_unless_hidden_also_if_visibility_is_unknown():
    filled = []
    for visible in (np.nan, 1.0, 0.0):
        attributes = full_attributes(1, (100, 100, visible, 150, 150, 1))
        result = result_of([(0, 0, 200, 200)], 200, 200, attributes=attributes)
        result = replace(result, declared=[a for a in ATTRIBUTES if a.name == "face"])
        drawn = draw(np.zeros((200, 200, 3), np.uint8), result)
        filled.append(bool(drawn[100, 100].any()))
    assert filled == [True, True, False]
