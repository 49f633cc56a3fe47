"""Detections of one image in pixels of the original image, as NumPy arrays."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from mtl_jax.attributes.base import Attribute
from mtl_jax.data.records import Category
from mtl_jax.data.segmentation import encode
from mtl_jax.images.geometry import Geometry
from mtl_jax.types import Detections

THRESHOLD = 0.5  # of a mask's probability, as torchvision and detectron2


@dataclass(frozen=True, eq=False)
class Result:
    """The D detections of an image, highest score first. Coordinates are pixels of the image."""

    boxes: np.ndarray  # [D, 4] float32: x1, y1, x2, y2, clipped to the image
    scores: np.ndarray  # [D] float32
    classes: np.ndarray  # [D] int64: class indices of the model, 1 .. K-1
    class_names: tuple[str, ...]  # of each detection
    category_ids: np.ndarray  # [D] int64: category ids of the data set
    height: int
    width: int
    mask_probabilities: np.ndarray | None = None  # [D, S, S] on the cells of `mask_boxes`
    mask_boxes: np.ndarray | None = None  # [D, 4]: before clipping; None: `boxes`
    exact_masks: bool = False  # see `paste_mask`
    attributes: Mapping[str, np.ndarray] = field(default_factory=dict)  # [D, E] by name
    declared: tuple[Attribute, ...] = ()
    draw_score: float = 0.5  # minimum score of a detection that `draw` shows
    image: np.ndarray | None = field(default=None, repr=False)  # the image, if it was kept

    @classmethod
    def from_detections(
        cls,
        detections: Detections,
        row: int,
        geometry: Geometry,
        height: int,
        width: int,
        *,
        categories: Sequence[Category],
        declared: Sequence[Attribute] = (),
        min_score: float = 0.0,
        draw_score: float = 0.5,
        classes: Collection[int] | None = None,
        exact_masks: bool = False,
        image: np.ndarray | None = None,
    ) -> "Result":
        """Convert row `row` of a batch's detections (NumPy arrays in pixels of the padded image).

        `geometry` is the transform from the image of `height` x `width` pixels to the padded image.
        Slots that are not valid, have scores below `min_score`, or have classes that are not in
        `classes` (class indices 1 .. K-1) are dropped.
        """
        scores = np.asarray(detections.scores[row])
        slots = np.flatnonzero(np.asarray(detections.valid[row]) & (scores >= min_score))
        if classes is not None:
            slots = slots[np.isin(np.asarray(detections.classes[row])[slots], list(classes))]
        slots = slots[np.argsort(-scores[slots], kind="stable")]
        inverse = geometry.inverse()
        whole = inverse.boxes(np.asarray(detections.boxes[row])[slots]).astype(np.float32)
        found = np.asarray(detections.classes[row])[slots].astype(np.int64)
        masks = None
        if detections.masks is not None:
            masks = np.asarray(detections.masks[row])[slots].astype(np.float32)
            masks = masks[:, :, ::-1] if geometry.mirrored else masks
        return cls(
            boxes=np.clip(whole, 0, np.array([width, height, width, height], np.float32)),
            scores=scores[slots].astype(np.float32),
            classes=found,
            class_names=tuple(categories[c - 1].name for c in found),
            category_ids=np.array([categories[c - 1].id for c in found], np.int64),
            height=height,
            width=width,
            mask_probabilities=masks,
            mask_boxes=None if masks is None else whole,
            exact_masks=exact_masks,
            attributes={
                a.name: a.move_prediction(
                    np.asarray(detections.attributes[a.name][row], np.float32)[slots], inverse
                )
                for a in declared
            },
            declared=tuple(declared),
            draw_score=draw_score,
            image=image,
        )

    def __len__(self) -> int:
        return len(self.scores)

    @cached_property
    def masks(self) -> np.ndarray | None:
        """The masks, bool `[D, H, W]`, computed on first use; None without a mask head."""
        if self.mask_probabilities is None:
            return None
        masks = np.zeros((len(self), self.height, self.width), bool)
        for i, mask in enumerate(masks):
            _fill(mask, *self.mask_crop(i))
        return masks

    def mask_crop(self, i: int) -> tuple[np.ndarray, int, int]:
        """Return the part of detection i's mask that can be True, bool `[h, w]`, and its first row
        and column. Raises ValueError if the model predicts no masks.
        """
        if self.mask_probabilities is None:
            raise ValueError("this model predicts no masks")
        boxes = self.boxes if self.mask_boxes is None else self.mask_boxes
        size = self.height, self.width
        return _paste(self.mask_probabilities[i], boxes[i], *size, self.exact_masks)

    def rle(self, i: int) -> dict[str, Any]:
        """Return detection i's mask as COCO's compressed RLE, with `counts` as str."""
        if i not in self._rles:  # evaluation uses it twice: for the metrics and for the file
            self._rles[i] = encode(*self.mask_crop(i), self.height, self.width)
        return self._rles[i]

    @cached_property
    def _rles(self) -> dict[int, dict[str, Any]]:
        return {}

    def without(self, classes: Collection[int]) -> "Result":
        """Return the detections that are not of `classes` (class indices)."""
        if not classes:
            return self
        kept = ~np.isin(self.classes, list(classes))

        def choose(array: np.ndarray | None) -> np.ndarray | None:
            return None if array is None else array[kept]

        return replace(
            self,
            boxes=self.boxes[kept],
            scores=self.scores[kept],
            classes=self.classes[kept],
            class_names=tuple(np.array(self.class_names, object)[kept]),
            category_ids=self.category_ids[kept],
            mask_probabilities=choose(self.mask_probabilities),
            mask_boxes=choose(self.mask_boxes),
            attributes={name: values[kept] for name, values in self.attributes.items()},
        )

    def enlarged(self, factor: int) -> "Result":
        """Return the result scaled to an image that is `factor` times as large."""
        larger = Geometry(factor, factor)
        return replace(
            self,
            boxes=larger.boxes(self.boxes).astype(np.float32),
            height=factor * self.height,
            width=factor * self.width,
            mask_boxes=None if self.mask_boxes is None else larger.boxes(self.mask_boxes),
            attributes={
                a.name: a.move_prediction(self.attributes[a.name], larger) for a in self.declared
            },
            image=None,
        )

    def to_json(self, image_id: int | str, file_name: str) -> list[dict[str, Any]]:
        """Return one entry per detection in COCO's results format, with boxes as x, y, w, h."""
        entries = []
        for i, (x1, y1, x2, y2) in enumerate(self.boxes.tolist()):
            entry = {
                "image_id": image_id,
                "file_name": file_name,
                "category_id": int(self.category_ids[i]),
                "category": self.class_names[i],
                "bbox": [round(v, 3) for v in (x1, y1, x2 - x1, y2 - y1)],
                "score": round(float(self.scores[i]), 6),
                "attributes": {
                    a.name: a.describe(self.attributes[a.name][i]) for a in self.declared
                },
            }
            if self.mask_probabilities is not None:
                entry["segmentation"] = self.rle(i)
            entries.append(entry)
        return entries


def paste_mask(
    probabilities: np.ndarray, box: np.ndarray, height: int, width: int, exact: bool = False
) -> np.ndarray:
    """Resize probabilities `[S, S]` to their box and return the mask, bool `[height, width]`.

    The mask is True where the probability is greater than THRESHOLD. If `exact`, it is sampled at
    the centres of the pixels in the box, bilinearly; border cells are repeated towards the box's
    edges.

    Otherwise as torchvision's `paste_masks_in_image`: the mask is padded with one cell of zeros,
    and the box is enlarged in proportion and truncated to integers, its last pixel included.
    """
    mask = np.zeros((height, width), bool)
    _fill(mask, *_paste(probabilities, box, height, width, exact))
    return mask


def _fill(mask: np.ndarray, crop: np.ndarray, y: int, x: int) -> None:
    mask[y : y + crop.shape[0], x : x + crop.shape[1]] = crop


def _paste(
    probabilities: np.ndarray, box: np.ndarray, height: int, width: int, exact: bool
) -> tuple[np.ndarray, int, int]:
    """Return the part of `paste_mask`'s mask that can be True, and its first row and column."""
    side = probabilities.shape[-1]
    if exact:
        x1, y1, x2, y2 = np.asarray(box, np.float64)
        columns, x = _samples(x1, x2, width, side)
        rows, y = _samples(y1, y2, height, side)
        return rows @ np.asarray(probabilities, np.float32) @ columns.T > THRESHOLD, y, x
    padded = np.pad(np.asarray(probabilities, np.float32), 1)
    x1, y1, x2, y2 = np.asarray(box, np.float32)
    # float32 and this order of operations truncate to the same integers as torchvision.
    grow, half = np.float32((side + 2) / side), np.float32(0.5)
    center_x, center_y = (x2 + x1) * half, (y2 + y1) * half
    half_w, half_h = (x2 - x1) * half * grow, (y2 - y1) * half * grow
    left, right = int(center_x - half_w), int(center_x + half_w)
    top, bottom = int(center_y - half_h), int(center_y + half_h)
    columns, x = _interpolation(left, right, width, side + 2)
    rows, y = _interpolation(top, bottom, height, side + 2)
    return rows @ padded @ columns.T > THRESHOLD, y, x


def _interpolation(first: int, last: int, limit: int, side: int) -> tuple[np.ndarray, int]:
    """Compute the bilinear weights `[pixels, side]` of `side` cells, and the first pixel.

    The cells span the pixels `first` to `last`; those outside 0 .. `limit` - 1 are left out.
    Pixel centres are at halves (`align_corners=False`); border cells are repeated outside.
    """
    length = max(last - first + 1, 1)
    start, stop = min(max(first, 0), limit), max(min(first + length, limit), 0)
    pixels = np.arange(start, max(start, stop)) - first
    return _bilinear((pixels + 0.5) * (side / length) - 0.5, side), start


def _samples(start: float, end: float, limit: int, side: int) -> tuple[np.ndarray, int]:
    """Compute the bilinear weights `[pixels, side]` of `side` cells between `start` and `end`.

    The pixels are those of 0 .. `limit` - 1 whose centres are in between. Also returns the first.
    """
    first, stop = (int(np.clip(np.ceil(edge - 0.5), 0, limit)) for edge in (start, end))
    centres = np.arange(first, max(first, stop)) + 0.5
    return _bilinear((centres - start) * (side / max(end - start, 1e-9)) - 0.5, side), first


def _bilinear(places: np.ndarray, side: int) -> np.ndarray:
    """Return the weights `[N, side]` of `side` values at `places`; the first and the last value are
    repeated outside.
    """
    places = np.maximum(places, 0)
    low = np.minimum(places.astype(int), side - 1)
    high = np.minimum(low + 1, side - 1)
    weights = np.zeros((len(places), side), np.float32)
    each = np.arange(len(places))
    weights[each, low] = 1 - (places - low)
    weights[each, high] += places - low
    return weights
