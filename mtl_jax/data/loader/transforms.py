"""Convert a record to a row of a batch: decode, resize, augment, and transform the annotations.

All changes that move pixels are combined in one `Geometry`, which is applied to the image, boxes,
masks and attributes. A row is a `types.Batch` without its leading axis. Images are padded at the
right and bottom to `canvas` (height, width); boxes are in pixels of the padded image.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mtl_jax.attributes.base import Attribute
from mtl_jax.config.options.data import AugmentOptions, DataOptions
from mtl_jax.data.face_masks.apply import mask_faces
from mtl_jax.data.loader.photometric import change_pixels
from mtl_jax.data.pixels import materialize, read_pixels
from mtl_jax.data.records import Instance, Record, Segmentation
from mtl_jax.data.segmentation import cell_coverage, to_mask
from mtl_jax.images.geometry import Geometry, Size, covered_box, scale_geometry
from mtl_jax.images.resize import ResizeOptions, resize_and_pad, resize_geometry
from mtl_jax.types import AttributeLabels, Batch, GroundTruth


def load(
    record: Record,
    index: int,
    attributes: Sequence[Attribute],
    options: DataOptions,
    rng: np.random.Generator | None = None,
) -> Batch:
    """Return the row of a record: augmented for training if `rng` is given, else for evaluation.

    Raises ValueError, or OSError for a file, if the image or a label is wrong.
    """
    record = materialize(record)
    if rng is not None and options.augment.mask:
        record = mask_faces(record, attributes, options.augment.mask, rng)
    x1, y1, x2, y2 = record.frame
    image = read_pixels(record, options.channels)
    turn = record.turn
    image = image[y1:y2, x1:x2] if turn is None else turn.cut(image, record.frame)
    height, width = image.shape[:2]
    canvas, geometry = resize_geometry(height, width, options.resize)
    if rng is not None:
        geometry = augment_geometry(height, width, canvas, geometry, options.augment, rng)
    pixels = resize_and_pad(image, canvas, geometry, options.resize.dtype)
    right, bottom = covered_box(height, width, canvas, geometry)[2:]
    if rng is not None:
        seen = pixels[: round(bottom), : round(right)]
        whole = seen if seen.dtype == np.uint8 else np.rint(seen).astype(np.uint8)
        changed = change_pixels(whole, options.augment, rng)
        if changed is not whole:
            seen[:] = changed
    gt, complete = ground_truth(record, canvas, geometry.after_cut(x1, y1), attributes, options)
    return Batch(
        images=pixels,
        sizes=np.array([bottom, right], np.float32),
        valid=np.array(True),
        exhaustive=np.array(record.exhaustive and complete),
        index=np.array(index, np.int32),
        gt=gt,
    )


def fit(record: Record, resize: ResizeOptions) -> tuple[Size, Geometry]:
    """Return the padded size of a record and the geometry from its image to the padded image,
    without augmentation. Raises ValueError for a record with a turn; a Geometry cannot rotate.
    """
    if record.turn is not None:
        raise ValueError(f"{record.place}: a record with a turn can only be used for training")
    x1, y1, x2, y2 = record.frame
    canvas, geometry = resize_geometry(y2 - y1, x2 - x1, resize)
    return canvas, geometry.after_cut(x1, y1)


def augment_geometry(
    height: int,
    width: int,
    canvas: Size,
    fitted: Geometry,
    options: AugmentOptions,
    rng: np.random.Generator,
) -> Geometry:
    """Sample a horizontal flip, a scale, and a random crop if the image is larger than the padded
    size.
    """
    factor = rng.uniform(*options.scale)
    size = (
        max(1, round(height * fitted.scale_y * factor)),
        max(1, round(width * fitted.scale_x * factor)),
    )
    spare = [max(0, side - room) for side, room in zip(size, canvas, strict=True)]
    offset = int(rng.integers(spare[0] + 1)), int(rng.integers(spare[1] + 1))
    return scale_geometry(height, width, size, offset, mirrored=bool(rng.random() < options.flip))


def empty_row(canvas: Size, attributes: Sequence[Attribute], options: DataOptions) -> Batch:
    """Return a row that is not valid, to fill a batch."""
    slots = options.max_instances
    cells = (options.mask_size, options.mask_size) if options.mask_size else canvas
    return Batch(
        images=np.zeros((*canvas, options.channels), options.resize.dtype),
        sizes=np.array(canvas, np.float32),
        valid=np.array(False),
        exhaustive=np.array(True),
        index=np.array(-1, np.int32),
        gt=GroundTruth(
            boxes=np.zeros((slots, 4), np.float32),
            classes=np.zeros(slots, np.int32),
            valid=np.zeros(slots, bool),
            masks=np.zeros((slots, *cells), np.uint8),
            mask_valid=np.zeros(slots, bool),
            ignored=np.zeros((slots, 4), np.float32),
            attributes={
                a.name: AttributeLabels(
                    np.zeros((slots, a.label_size), np.float32),
                    np.zeros((slots, a.label_size), bool),
                )
                for a in attributes
            },
        ),
    )


class Placed(NamedTuple):
    """A record, its geometry in the padded image, and its visible box `[4]` there."""

    record: Record
    geometry: Geometry
    seen: np.ndarray


def ground_truth(
    record: Record,
    canvas: Size,
    geometry: Geometry,
    attributes: Sequence[Attribute],
    options: DataOptions,
) -> tuple[GroundTruth, bool]:
    """Return a record's annotations in pixels of the padded image, in `max_instances` slots, and
    whether they contain every instance of which at least a pixel is visible.

    Instances without a slot, with less than `min_visible` of their area, and crowds are ignored
    regions, at most `max_instances`. `geometry` is that of the whole image, also if only a region
    is visible. Raises ValueError that names the instance of a wrong label.
    """
    gt = empty_row(canvas, attributes, options).gt
    seen = geometry.boxes(np.array(record.frame, np.float64))
    seen = np.clip(seen, 0, [canvas[1], canvas[0], canvas[1], canvas[0]])
    placed = Placed(record, geometry, seen)
    slot = 0
    ignored: list[np.ndarray] = []
    for instance in record.instances:
        box, visible = clip_box(instance.box, placed)
        if box is None:
            continue
        if instance.crowd or visible < options.min_visible or slot == options.max_instances:
            ignored.append(box)
            continue
        try:
            _fill_slot(gt, slot, instance, box, placed, attributes, options.mask_size)
        except ValueError as error:
            raise ValueError(f"instance {instance.id}: {error}") from error
        slot += 1
    left_out = (clip_box(box, placed)[0] for box in record.ignored)
    ignored += [box for box in left_out if box is not None]
    room = len(gt.ignored)
    gt.ignored[: len(ignored)] = np.reshape(ignored[:room], (-1, 4))
    return gt, len(ignored) <= room


def clip_box(box: Sequence[float], placed: Placed) -> tuple[np.ndarray | None, float]:
    """Transform a box to the padded image and clip it to the visible part. Return the clipped box,
    or None if it is smaller than 1 x 1 pixel, and its fraction of the box's area.
    """
    turned = box if placed.record.turn is None else placed.record.turn.box(box)
    whole = placed.geometry.boxes(np.asarray(turned, np.float64))
    left = np.clip(whole, np.tile(placed.seen[:2], 2), np.tile(placed.seen[2:], 2))
    width, height = left[2:] - left[:2]
    if width < 1 or height < 1:
        return None, 0.0
    return left, float(width * height / np.prod(whole[2:] - whole[:2]))


def _fill_slot(
    gt: GroundTruth,
    slot: int,
    instance: Instance,
    box: np.ndarray,
    placed: Placed,
    attributes: Sequence[Attribute],
    mask_size: int,
) -> None:
    gt.boxes[slot], gt.classes[slot] = box, instance.label
    gt.valid[slot] = True
    if instance.segmentation is not None:
        _write_mask(gt.masks[slot], instance.segmentation, box, placed, mask_size)
        gt.mask_valid[slot] = True
    for attribute in attributes:
        values, known = instance.label_of(attribute)
        if placed.record.turn is not None:
            values = attribute.turn(values, placed.record.turn)
        values, known = attribute.crop(*attribute.move(values, known, placed.geometry), placed.seen)
        gt.attributes[attribute.name].values[slot] = values
        gt.attributes[attribute.name].known[slot] = known


def _write_mask(
    out: np.ndarray, segmentation: Segmentation, box: np.ndarray, placed: Placed, mask_size: int
) -> None:
    """Write the coverage of the box's cells, or of the pixels in the box if `mask_size` is 0."""
    if mask_size:
        x_edges, y_edges = (np.linspace(box[i], box[i + 2], mask_size + 1) for i in (0, 1))
    else:
        x1, y1 = np.floor(box[:2]).astype(int)
        x2, y2 = np.ceil(box[2:]).astype(int)
        out = out[y1:y2, x1:x2]
        x_edges, y_edges = np.arange(x1, x2 + 1.0), np.arange(y1, y2 + 1.0)
    record, back = placed.record, placed.geometry.inverse()
    x_edges, y_edges = x_edges * back.scale_x + back.shift_x, y_edges * back.scale_y + back.shift_y
    window = (
        max(0, int(np.floor(x_edges.min()))),
        max(0, int(np.floor(y_edges.min()))),
        min(record.width, int(np.ceil(x_edges.max()))),
        min(record.height, int(np.ceil(y_edges.max()))),
    )
    mask = to_mask(segmentation, record.height, record.width, window)
    out[:] = cell_coverage(mask, x_edges - window[0], y_edges - window[1])
