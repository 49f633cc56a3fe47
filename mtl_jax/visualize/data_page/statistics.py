"""Statistics of a data set: classes, sizes, labels, and how well anchors fit its boxes."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mtl_jax.attributes.base import Attribute, Label
from mtl_jax.data.loader import transforms
from mtl_jax.data.records import Category, Record
from mtl_jax.images.resize import ResizeOptions
from mtl_jax.ops.anchors import cell_anchors

Sizes = Sequence[Sequence[float]]


@dataclass
class DataNumbers:
    """Counts and measurements of records. Crowds are counted separately and not measured."""

    images: int = 0
    crowds: int = 0
    without_masks: int = 0
    sizes: list[tuple[int, int]] = field(default_factory=list)  # height, width of each image
    instances: list[int] = field(default_factory=list)  # number on each image
    classes: Counter[str] = field(default_factory=Counter)
    boxes: list[np.ndarray] = field(default_factory=list)  # x1, y1, x2, y2 in pixels of the image
    placed: list[np.ndarray] = field(default_factory=list)  # the same in the network's input
    values: dict[str, list[Any]] = field(default_factory=dict)  # known labels, by column
    missing: Counter[str] = field(default_factory=Counter)  # number of missing labels, by column


def measure(
    records: Iterable[Record],
    categories: Sequence[Category],
    attributes: Sequence[Attribute],
    resize: ResizeOptions,
) -> DataNumbers:
    """Compute statistics of records. An attribute has one column, a pose one for each angle."""
    numbers = DataNumbers()
    for record in records:
        numbers.images += 1
        numbers.sizes.append((record.height, record.width))
        _, geometry = transforms.fit(record, resize)
        instances = [instance for instance in record.instances if not instance.crowd]
        numbers.crowds += len(record.instances) - len(instances)
        numbers.instances.append(len(instances))
        for instance in instances:
            numbers.classes[categories[instance.label - 1].name] += 1
            numbers.without_masks += instance.segmentation is None
            numbers.boxes.append(np.array(instance.box))
            numbers.placed.append(geometry.boxes(np.array([instance.box], np.float32))[0])
            for attribute in attributes:
                _add_label(numbers, attribute, instance.label_of(attribute))
    return numbers


def _add_label(numbers: DataNumbers, attribute: Attribute, label: Label) -> None:
    for name, value, is_known in attribute.columns(*label):
        numbers.values.setdefault(name, [])
        if is_known:
            numbers.values[name].append(value)
        else:
            numbers.missing[name] += 1


def best_overlaps(
    boxes: np.ndarray, anchor_sizes: Sizes, ratios: Sequence[float], strides: Sequence[int]
) -> np.ndarray:
    """Return the IoU of each box `[N, 4]`, in pixels of the network's input, with its best anchor.

    Among anchors of one shape, the best is the one whose centre, on a grid with the level's stride,
    is nearest to the centre of the box.
    """
    sizes, centers = boxes[:, 2:] - boxes[:, :2], (boxes[:, :2] + boxes[:, 2:]) / 2
    best = np.zeros(len(boxes))
    for level, stride in zip(anchor_sizes, strides, strict=True):
        apart = np.abs(centers - np.round(centers / stride) * stride)
        for x1, y1, x2, y2 in np.asarray(cell_anchors(level, ratios)):
            shape = np.array([x2 - x1, y2 - y1])
            sides = np.minimum(np.minimum(sizes, shape), (sizes + shape) / 2 - apart)
            common = np.clip(sides, 0, None).prod(1)
            best = np.maximum(best, common / (sizes.prod(1) + shape.prod() - common))
    return best


def suggest_anchors(
    boxes: np.ndarray, anchor_sizes: Sizes, strides: Sequence[int]
) -> tuple[tuple[tuple[float, ...], ...], tuple[float, ...]]:
    """Return the anchor sizes and ratios with the best mean IoU for boxes `[N, 4]`.

    Boxes are in pixels of the network's input. The sizes are `anchor_sizes` times one factor. The
    ratios (height / width) are one, two or three quantiles of those of the boxes. A further
    ratio must raise the mean IoU by 0.01.
    """
    logs = np.log((boxes[:, 3] - boxes[:, 1]) / (boxes[:, 2] - boxes[:, 0]))
    found: tuple[float, Any] = (-1.0, None)
    for quantiles in ((0.5,), (0.25, 0.75), (1 / 6, 0.5, 5 / 6)):
        ratios = tuple(round(float(np.exp(value)), 2) for value in np.quantile(logs, quantiles))
        for factor in 2 ** np.linspace(-2, 2, 17):
            scaled = tuple(tuple(float(round(s * factor)) for s in level) for level in anchor_sizes)
            if min(map(min, scaled)) < 1:
                continue
            mean = float(best_overlaps(boxes, scaled, ratios, strides).mean())
            if mean - 0.01 * len(ratios) > found[0]:
                found = mean - 0.01 * len(ratios), (scaled, tuple(dict.fromkeys(ratios)))
    return found[1]
