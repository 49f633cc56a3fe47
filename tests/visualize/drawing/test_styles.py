"""Each style against NumPy on the same image."""

import cv2
import numpy as np
import pytest
from mistakes import refused
from visualize.drawing.test_draw import noise, result_of

from mtl_jax.visualize.drawing import window
from mtl_jax.visualize.drawing.draw import draw
from mtl_jax.visualize.drawing.palette import class_color
from mtl_jax.visualize.drawing.styles import STYLES, masks, panels, splash

HEIGHT, WIDTH = 90, 120
BOXES = [(10, 20, 60, 50), (40, 30, 100, 80)]
NAMES = ["cat", "dog"]


def detections(with_masks=True, **options):
    """Return two detections that overlap, and the region of each."""
    halves = np.zeros((2, 28, 28), np.float32)
    halves[0, :, :14] = 1  # the left half
    halves[1] = 1
    result = result_of(BOXES, HEIGHT, WIDTH, NAMES, masks=halves if with_masks else None, **options)
    if with_masks:
        return result, result.masks
    regions = np.zeros((2, HEIGHT, WIDTH), bool)
    for region, (x1, y1, x2, y2) in zip(regions, BOXES, strict=True):
        region[y1:y2, x1:x2] = True
    return result, regions


@pytest.mark.parametrize("with_masks", [True, False])
def test_masks_are_their_classes_colours_on_black(with_masks):
    result, regions = detections(with_masks)
    expected = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    expected[regions[1]] = class_color("dog")
    expected[regions[0]] = class_color("cat")  # the higher score is on top
    np.testing.assert_array_equal(masks(noise(HEIGHT, WIDTH), result), expected)


@pytest.mark.parametrize("with_masks", [True, False])
def test_a_splash_keeps_the_colour_of_detections(with_masks):
    image = noise(HEIGHT, WIDTH)
    result, regions = detections(with_masks)
    drawn = splash(image, result)
    inside = regions.any(0)
    np.testing.assert_array_equal(drawn[inside], image[inside])
    gray = image @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(drawn[~inside], np.dstack([gray] * 3)[~inside], atol=1)
    assert (drawn[~inside] == drawn[~inside][:, :1]).all()


def test_a_splash_without_detections_is_gray():
    drawn = splash(noise(HEIGHT, WIDTH), result_of([], HEIGHT, WIDTH))
    assert (drawn == drawn[..., :1]).all()
    assert drawn.std() > 10


def test_panels_are_three_images_side_by_side():
    image = noise(HEIGHT, WIDTH)
    result, _ = detections()
    boxes, filled, both = np.split(panels(image, result), 3, axis=1)
    np.testing.assert_array_equal(boxes, STYLES["boxes"](image, result))
    np.testing.assert_array_equal(filled, masks(image, result))
    np.testing.assert_allclose(both, 0.6 * filled + 0.4 * image, atol=0.51)


def test_boxes_are_the_overlay_of_a_model_without_masks():
    image = noise(HEIGHT, WIDTH)
    boxed = STYLES["boxes"](image, detections()[0])
    np.testing.assert_array_equal(boxed, draw(image, detections(with_masks=False)[0]))
    assert (boxed != STYLES["overlay"](image, detections()[0])).any()


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_a_style_does_not_modify_its_image_and_accepts_any_channels(style, channels):
    image = noise(HEIGHT, WIDTH, channels)
    before = image.copy()
    drawn = STYLES[style](image, detections()[0])
    np.testing.assert_array_equal(image, before)
    assert drawn.shape == (HEIGHT, 3 * WIDTH if style == "panels" else WIDTH, 3)
    assert drawn.dtype == np.uint8


@pytest.mark.parametrize("style", STYLES)
def test_low_scores_are_not_drawn(style):
    image = noise(HEIGHT, WIDTH)
    weak, _ = detections(scores=[0.4, 0.3])
    none = result_of([], HEIGHT, WIDTH)
    np.testing.assert_array_equal(STYLES[style](image, weak), STYLES[style](image, none))
    with refused("60 x 90", error=ValueError):
        STYLES[style](image[:, :60], weak)


def test_no_window_without_a_display(monkeypatch):
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  GUI:           NONE\n")
    with refused("--show", "opencv-contrib-python"):
        window.require_display()
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  GUI:           QT5\n")
    monkeypatch.setattr(window.sys, "platform", "linux")
    monkeypatch.setenv("DISPLAY", "")
    monkeypatch.setenv("WAYLAND_DISPLAY", "")
    with refused("--show", "DISPLAY"):
        window.require_display()
    monkeypatch.setenv("DISPLAY", ":0")
    window.require_display()


def test_a_window_shows_until_it_is_closed(monkeypatch):
    shown, waits, keys = [], [], iter([ord("n"), ord("q")])
    monkeypatch.setattr(cv2, "imshow", lambda title, image: shown.append(image))
    monkeypatch.setattr(cv2, "waitKey", lambda wait: waits.append(wait) or next(keys))
    monkeypatch.setattr(cv2, "destroyAllWindows", lambda: None)
    opened = window.Window()
    for _ in range(3):
        opened.show(np.full((4, 5, 3), (1, 2, 3), np.uint8), wait=not shown)
    assert waits == [0, 1]
    assert shown[0][0, 0].tolist() == [3, 2, 1]
