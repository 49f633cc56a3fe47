"""COCO average precision of boxes and masks by pycocotools, in the images' original pixels."""

import contextlib
import io
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import pycocotools.mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mtl_jax.data.records import Category, Instance, Record
from mtl_jax.evals.matching import Truth, ignored_crowds, match
from mtl_jax.results import Result

coco_mask: Any = pycocotools.mask  # its type stubs are too narrow
Annotation = dict[str, Any]
AREAS = ("all", "small", "medium", "large")  # the order of COCOeval's area ranges


def segmentation_rle(instance: Instance, height: int, width: int) -> dict[str, Any] | None:
    """Return an instance's mask as compressed RLE, from any format; None if it has none."""
    segmentation = instance.segmentation
    if segmentation is None or (isinstance(segmentation, list) and not segmentation):
        return None
    if isinstance(segmentation, np.ndarray):
        return coco_mask.encode(np.asfortranarray(segmentation.astype(np.uint8)))
    if isinstance(segmentation, list):
        return coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    if isinstance(segmentation["counts"], list):
        return coco_mask.frPyObjects(segmentation, height, width)
    return dict(segmentation)


class CocoScorer:
    """Accumulate images and their detections; `metrics` returns AP by COCO's rules.

    Classes are the model's. Images are numbered in order from 0, annotations from 1 (pycocotools
    uses 0 for "none").
    """

    def __init__(self, categories: Sequence[Category]):
        self._names = [category.name for category in categories]
        self._images: list[Annotation] = []
        self._truth: list[Annotation] = []
        self._found: list[Annotation] = []
        self._masks = False
        self._curves: dict[str, np.ndarray] = {}  # of the images so far, computed on demand

    def add(self, record: Record, result: Result) -> None:
        """Add an image in which every instance of the classes is annotated."""
        self._curves = {}
        image = len(self._images)
        self._images.append({"id": image, "height": record.height, "width": record.width})
        classes = range(1, len(self._names) + 1)
        for instance in (*record.instances, *ignored_crowds(record, classes)):
            rle = segmentation_rle(instance, record.height, record.width)
            self._truth.append(
                {
                    "id": len(self._truth) + 1,
                    "image_id": image,
                    "category_id": instance.label,
                    "bbox": _xywh(instance.box),
                    "area": _area(instance, rle),
                    "iscrowd": int(instance.crowd),
                    "segmentation": rle,
                }
            )
        self._masks |= result.mask_probabilities is not None
        unscored = _on_box_only(record, result)
        for i in range(len(result)):  # COCOeval uses the 100 best scores per class
            bbox = _xywh(result.boxes[i])
            has_mask = result.mask_probabilities is not None and not unscored[i]
            self._found.append(
                {
                    "id": len(self._found) + 1,
                    "image_id": image,
                    "category_id": int(result.classes[i]),
                    "bbox": bbox,
                    "area": bbox[2] * bbox[3],
                    "iscrowd": 0,
                    "score": float(result.scores[i]),
                    "segmentation": result.rle(i) if has_mask else None,
                }
            )

    def metrics(self) -> dict[str, float]:
        """Return `box/AP`, `box/AP50`, `box/AP/<class>`, ... and the same for masks.

        Metrics without instances are omitted.
        """
        return {
            f"{kind}/{name}": value
            for kind, precision in self.curves().items()
            for name, value in self._read(precision)
        }

    def curves(self) -> dict[str, np.ndarray]:
        """Return COCOeval's precision `[T, R, K, A]` of `box` and, for a model with masks, `mask`.

        The axes are IoUs from 0.5 to 0.95, 101 recalls, classes, and `AREAS`. Values are -1 where
        there are no instances.
        """
        if self._images and not self._curves:
            self._curves = self._evaluate_all()
        return self._curves

    def _evaluate_all(self) -> dict[str, np.ndarray]:
        curves = {"box": self._evaluate("bbox", self._truth, self._found)}
        if self._masks:
            found = [
                {**d, "area": float(coco_mask.area(d["segmentation"]))}
                for d in self._found
                if d["segmentation"] is not None
            ]
            truth = [_mask_truth(annotation, self._images) for annotation in self._truth]
            curves["mask"] = self._evaluate("segm", truth, found)
        return curves

    def _evaluate(
        self, kind: Literal["bbox", "segm"], truth: list[Annotation], found: list[Annotation]
    ) -> np.ndarray:
        # pycocotools prints its progress, which cannot be disabled.
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = COCOeval(self._dataset(truth), self._dataset(found), kind)
            evaluation.evaluate()
            evaluation.accumulate()
        # The last axis is the maximum number of detections; the largest is used.
        return evaluation.eval["precision"][..., -1]

    def _dataset(self, annotations: list[Annotation]) -> COCO:
        dataset: Any = COCO()
        categories = [{"id": i + 1, "name": name} for i, name in enumerate(self._names)]
        # Copied, because COCOeval modifies the annotations.
        annotations = [dict(annotation) for annotation in annotations]
        dataset.dataset = {
            "images": self._images,
            "annotations": annotations,
            "categories": categories,
        }
        dataset.createIndex()
        return dataset

    def _read(self, precision: np.ndarray) -> Iterator[tuple[str, float]]:
        """Yield the name and the mean of `precision` `[T, R, K, A]` for metrics with instances."""
        parts = {
            "AP": precision[..., 0],
            "AP50": precision[0, ..., 0],
            "AP75": precision[5, ..., 0],
        }
        parts |= {f"AP_{area}": precision[..., a] for a, area in enumerate(AREAS) if a}
        parts |= {f"AP/{name}": precision[:, :, k, 0] for k, name in enumerate(self._names)}
        for name, part in parts.items():
            if (part > -1).any():
                yield name, float(part[part > -1].mean())


def _xywh(box: Sequence[float] | np.ndarray) -> list[float]:
    x1, y1, x2, y2 = (float(v) for v in box)
    return [x1, y1, x2 - x1, y2 - y1]


def _area(instance: Instance, rle: dict[str, Any] | None) -> float:
    if instance.area is not None:
        return float(instance.area)
    if rle is not None:
        return float(coco_mask.area(rle))
    _, _, width, height = _xywh(instance.box)
    return width * height


def _on_box_only(record: Record, result: Result) -> np.ndarray:
    """Return which detections `[D]` matched an instance that has a box and no mask."""
    alone = np.array([i.segmentation is None for i in record.instances], bool)
    if not alone.any():
        return np.zeros(len(result), bool)
    found = match(result.boxes, result.scores, result.classes, Truth.of(record)).gt_index
    return (found >= 0) & alone[found]


def _mask_truth(annotation: Annotation, images: list[Annotation]) -> Annotation:
    """Return the annotation for scoring masks; an instance without a mask becomes a crowd.

    Its mask is its box. It does not count as a miss, and detections in the box are neither true
    nor false positives.
    """
    if annotation["segmentation"] is not None:
        return annotation
    image = images[annotation["image_id"]]
    box = np.array([annotation["bbox"]])
    rle = coco_mask.frPyObjects(box, image["height"], image["width"])[0]
    return {**annotation, "segmentation": rle, "iscrowd": 1}
