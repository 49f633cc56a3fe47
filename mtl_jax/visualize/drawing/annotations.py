"""Annotations as a `Result` with infinite scores, to be drawn like detections; and pixels of a row
of a batch to draw them on.
"""

from collections.abc import Sequence

import numpy as np

from mtl_jax.attributes.base import Attribute
from mtl_jax.data.records import Category, Record
from mtl_jax.data.segmentation import cell_coverage, to_mask
from mtl_jax.images.geometry import Geometry
from mtl_jax.results import Result
from mtl_jax.types import Batch, Detections
from mtl_jax.visualize.drawing.draw import as_rgb

CELLS = 224  # side of the masks; finer than the masks of any model


def record_result(
    record: Record, categories: Sequence[Category], attributes: Sequence[Attribute]
) -> Result:
    """Return a record's instances, without crowds, in pixels of the image.

    Missing labels are NaN.
    """
    instances = [instance for instance in record.instances if not instance.crowd]
    classes = np.array([instance.label for instance in instances], np.int64)
    labels = [[instance.label_of(a) for instance in instances] for a in attributes]
    boxes = np.array([instance.box for instance in instances], np.float32).reshape(-1, 4)
    return Result(
        boxes=boxes,
        scores=np.full(len(instances), np.inf, np.float32),
        classes=classes,
        class_names=tuple(categories[c - 1].name for c in classes),
        category_ids=np.array([categories[c - 1].id for c in classes], np.int64),
        height=record.height,
        width=record.width,
        mask_probabilities=_masks(record, boxes, [i.segmentation for i in instances]),
        attributes={
            a.name: _predictions(a, of_instances)
            for a, of_instances in zip(attributes, labels, strict=True)
        },
        declared=tuple(attributes),
    )


def _masks(record: Record, boxes: np.ndarray, segmentations: Sequence) -> np.ndarray | None:
    """Return masks on the cells of their boxes, empty if not annotated; None if none is."""
    if all(segmentation is None for segmentation in segmentations):
        return None
    masks = np.zeros((len(boxes), CELLS, CELLS), np.float32)
    for mask, (x1, y1, x2, y2), segmentation in zip(masks, boxes, segmentations, strict=True):
        if segmentation is not None:
            drawn = to_mask(segmentation, record.height, record.width)
            edges = [np.linspace(low, high, CELLS + 1) for low, high in ((x1, x2), (y1, y2))]
            mask[:] = cell_coverage(drawn, *edges) / np.float32(255)
    return masks


def _predictions(attribute: Attribute, labels: Sequence) -> np.ndarray:
    shape = (len(labels), attribute.label_size)
    values = np.array([label[0] for label in labels], np.float32).reshape(shape)
    known = np.array([label[1] for label in labels], bool).reshape(shape)
    return attribute.as_prediction(values, known)


def row_result(
    row: Batch,
    categories: Sequence[Category],
    attributes: Sequence[Attribute],
    full_size_masks: bool,
) -> Result:
    """Return the annotations of `row`, a batch without its leading axis, in its own pixels.

    Ignored regions are omitted. Masks are those used in training; masks of the whole padded image
    are omitted.
    """
    gt = row.gt
    masks = np.where(gt.mask_valid[:, None, None], gt.masks, 0).astype(np.float32) / 255
    found = Detections(
        boxes=gt.boxes[None],
        scores=np.full((1, len(gt.valid)), np.inf, np.float32),
        classes=gt.classes[None],
        valid=gt.valid[None],
        masks=None if full_size_masks or not gt.mask_valid.any() else masks[None],
        attributes={a.name: a.as_prediction(*gt.attributes[a.name])[None] for a in attributes},
    )
    height, width = row.images.shape[:2]
    return Result.from_detections(
        found,
        0,
        Geometry(),
        height,
        width,
        categories=categories,
        declared=attributes,
        exact_masks=True,
    )


def row_pixels(row: Batch) -> np.ndarray:
    """Return the pixels of a row, with padding, RGB uint8."""
    return as_rgb(np.clip(np.rint(row.images), 0, 255).astype(np.uint8))


def crop_padding(row: Batch, pixels: np.ndarray) -> np.ndarray:
    """Return pixels of a row without its padding."""
    height, width = np.ceil(row.sizes).astype(int)
    return pixels[:height, :width].copy()
