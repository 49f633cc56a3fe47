"""The ways to show what was found, by name. Each takes a picture and its result, and gives RGB."""

from collections.abc import Callable

import cv2
import numpy as np

from mtl_jax.results import Result
from mtl_jax.visualize.drawing.draw import as_rgb, draw, draw_boxes, to_show
from mtl_jax.visualize.drawing.palette import class_color

MASK_SHARE = 0.6  # of the masks in the last of the panels; the picture has the rest


def masks(image: np.ndarray, result: Result) -> np.ndarray:
    """Fill what was found with its class's colour, on black: `[H, W, 3]`.

    A model without masks has its boxes filled.
    """
    picture = np.zeros((*image.shape[:2], 3), np.uint8)
    for i in reversed(to_show(image, result)):  # the higher score over the lower
        region, y, x = _region(result, i)
        window = picture[y : y + region.shape[0], x : x + region.shape[1]]
        window[region] = class_color(result.class_names[i])
    return picture


def splash(image: np.ndarray, result: Result) -> np.ndarray:
    """Leave the colour to what was found, and turn the rest gray: `[H, W, 3]`.

    A model without masks leaves it to the insides of its boxes.
    """
    picture = as_rgb(image)
    gray = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    for i in to_show(image, result):
        region, y, x = _region(result, i)
        rows, columns = slice(y, y + region.shape[0]), slice(x, x + region.shape[1])
        gray[rows, columns][region] = picture[rows, columns][region]
    return gray


def panels(image: np.ndarray, result: Result) -> np.ndarray:
    """Give three pictures side by side, `[H, 3 W, 3]`: the boxes, the masks on black, and 0.6 of
    the masks with 0.4 of the picture.
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


LABELLED = ("overlay", "boxes", "panels")  # the styles with text


def _region(result: Result, i: int) -> tuple[np.ndarray, int, int]:
    """Give where detection i lies, bool `[h, w]`, and that window's first row and column."""
    if result.mask_probabilities is not None:
        return result.mask_crop(i)
    x1, y1, x2, y2 = (round(float(v)) for v in result.boxes[i])
    return np.ones((max(y2 - y1, 0), max(x2 - x1, 0)), bool), y1, x1
