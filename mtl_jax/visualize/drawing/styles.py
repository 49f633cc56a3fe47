"""Styles of drawing detections, by name. Each maps an image and its result to an RGB image."""

from collections.abc import Callable

import cv2
import numpy as np

from mtl_jax.results import Result
from mtl_jax.visualize.drawing.draw import as_rgb, draw, draw_boxes, to_show
from mtl_jax.visualize.drawing.palette import class_color

MASK_SHARE = 0.6  # weight of the masks in the last panel; the image has the rest


def masks(image: np.ndarray, result: Result) -> np.ndarray:
    """Fill each detection with its class's colour, on black: `[H, W, 3]`.

    If the model predicts no masks, boxes are filled.
    """
    filled = np.zeros((*image.shape[:2], 3), np.uint8)
    for i in reversed(to_show(image, result)):  # higher scores are drawn on top
        region, y, x = _region(result, i)
        window = filled[y : y + region.shape[0], x : x + region.shape[1]]
        window[region] = class_color(result.class_names[i])
    return filled


def splash(image: np.ndarray, result: Result) -> np.ndarray:
    """Keep the colour of detections and turn the rest gray: `[H, W, 3]`.

    If the model predicts no masks, boxes keep their colour.
    """
    rgb = as_rgb(image)
    gray = cv2.cvtColor(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    for i in to_show(image, result):
        region, y, x = _region(result, i)
        rows, columns = slice(y, y + region.shape[0]), slice(x, x + region.shape[1])
        gray[rows, columns][region] = rgb[rows, columns][region]
    return gray


def panels(image: np.ndarray, result: Result) -> np.ndarray:
    """Return three images side by side, `[H, 3 W, 3]`: boxes, masks on black, and a blend.

    The blend consists of 0.6 of the masks and 0.4 of the image.
    """
    filled = masks(image, result)
    both = cv2.addWeighted(filled, MASK_SHARE, as_rgb(image), 1 - MASK_SHARE, 0)
    return np.hstack([draw_boxes(image, result), filled, both])


STYLES: dict[str, Callable[[np.ndarray, Result], np.ndarray]] = {
    "overlay": draw,
    "boxes": draw_boxes,
    "masks": masks,
    "splash": splash,
    "panels": panels,
}


LABELLED = ("overlay", "boxes", "panels")  # styles that contain text


def _region(result: Result, i: int) -> tuple[np.ndarray, int, int]:
    """Return the region of detection i, bool `[h, w]`, and its window's first row and column."""
    if result.mask_probabilities is not None:
        return result.mask_crop(i)
    x1, y1, x2, y2 = (round(float(v)) for v in result.boxes[i])
    return np.ones((max(y2 - y1, 0), max(x2 - x1, 0)), bool), y1, x1
