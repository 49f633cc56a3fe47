"""Sections of a page on the anchors and regions that training samples from one image."""

from collections.abc import Sequence

import numpy as np

from mtl_jax.config.options.mask_rcnn import MaskRCNNOptions
from mtl_jax.data.records import Category
from mtl_jax.types import Batch
from mtl_jax.visualize.drawing.annotations import crop_padding, row_pixels
from mtl_jax.visualize.drawing.palette import GRAY, GREEN, RED, class_color
from mtl_jax.visualize.drawing.sheets import rectangle, sheet
from mtl_jax.visualize.page import Page
from mtl_jax.visualize.training_targets import anchor_examples, region_examples

NEUTRAL = 100  # neutral anchors that are drawn
REGIONS = 10
LEVEL_COLORS = ((220, 50, 47), (230, 140, 20), (70, 160, 60), (40, 110, 200), (140, 70, 180))


def add_anchors(page: Page, model: MaskRCNNOptions, row: Batch, seed: int) -> None:
    """Add the anchors of `row`, a batch without its leading axis, and the sampled ones."""
    page.heading("Sampled anchors")
    found = anchor_examples(row, model, seed)
    pixels = crop_padding(row, row_pixels(row))
    per_cell = model.rpn.anchors_per_cell
    rows, start, middle = [], 0, pixels.copy()
    for level, (height, width) in enumerate(found.level_sizes):
        count = height * width * per_cell
        part = slice(start, start + count)
        down, across = found.strides[level].tolist()
        rows.append(
            (
                f"P{level + 2}",
                f"{height} x {width}",
                f"{down} x {across}",
                count,
                int(found.positive[part].sum()),
                int(found.negative[part].sum()),
                int(found.neutral[part].sum()),
            )
        )
        cell = _middle_cell(row, found.strides[level], (height, width))
        for box in found.boxes[start + cell * per_cell : start + (cell + 1) * per_cell]:
            rectangle(middle, box, LEVEL_COLORS[level], 2)
        start += count
    header = ("level", "cells", "stride", "anchors", "positive", "negative", "neutral")
    page.table(header, rows)
    page.image("anchors", middle, "Anchors of the centre cell of each level")
    positive = pixels.copy()
    for box, refined in zip(found.boxes[found.sampled_positive], found.refined, strict=True):
        rectangle(positive, box, GRAY, 1, dotted=True)
        rectangle(positive, refined, GREEN, 2)
    page.image(
        "anchors_positive",
        positive,
        f"{len(found.sampled_positive)} positive anchors (dotted) and their target boxes (solid)",
    )
    negative = pixels.copy()
    for box in found.boxes[found.sampled_negative]:
        rectangle(negative, box, RED, 1)
    page.image(
        "anchors_negative", negative, f"{len(found.sampled_negative)} sampled negative anchors"
    )
    neutral, rng = pixels.copy(), np.random.default_rng(seed)
    candidates = rng.permutation(np.flatnonzero(found.neutral))[:NEUTRAL]
    for box in found.boxes[candidates]:
        rectangle(neutral, box, GRAY, 1)
    page.image(
        "anchors_neutral",
        neutral,
        f"{len(candidates)} of {found.neutral.sum()} neutral anchors, which the loss ignores",
    )


def _middle_cell(row: Batch, stride: np.ndarray, cells: tuple[int, int]) -> int:
    """Return the index of the cell at the centre of the image, without its padding."""
    y, x = (
        min(int(side / 2 // step), count - 1)
        for side, step, count in zip(row.sizes, stride, cells, strict=True)
    )
    return y * cells[1] + x


def add_regions(
    page: Page,
    model: MaskRCNNOptions,
    row: Batch,
    categories: Sequence[Category],
    full_size_masks: bool,
    seed: int,
) -> None:
    """Add sampled regions of `row`, a batch without its leading axis, with their targets."""
    page.heading("Sampled regions")
    found = region_examples(row, model, full_size_masks, seed)
    pixels = crop_padding(row, row_pixels(row))
    unique = len(np.unique(found.boxes.round(3), axis=0))
    share = float(found.positive.mean()) if len(found.positive) else 0.0
    page.text(
        f"{len(found.boxes)} of the random regions are sampled ({unique} distinct ones); "
        f"{found.positive.sum()} of them are positive ({share:.0%})."
    )
    names = ["background", *(category.name for category in categories)]
    rng = np.random.default_rng(seed)
    drawn = pixels.copy()
    for i in rng.permutation(len(found.boxes))[:REGIONS]:
        kind = names[found.classes[i]]
        color = class_color(kind) if found.positive[i] else GRAY
        rectangle(drawn, found.boxes[i], color, 1, dotted=True)
        if found.positive[i]:
            rectangle(drawn, found.refined[i], color, 2)
    page.image(
        "rois", drawn, "Ten regions (dotted; gray: background) and their target boxes (solid)"
    )
    cells, captions = [], []
    for i in rng.permutation(np.flatnonzero(found.positive))[:8]:
        x1, y1, x2, y2 = found.boxes[i].round().astype(int)
        crop = pixels[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)]
        cells += [crop, np.rint(255 * found.masks[i]).astype(np.uint8)]
        captions += [names[found.classes[i]], "mask target"]
    if cells:
        page.image(
            "roi_masks",
            sheet(cells, 8, captions, (150, 150)),
            "Positive regions and their mask targets",
        )
