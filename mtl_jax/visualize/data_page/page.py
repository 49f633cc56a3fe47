"""A page on a data set: its annotations, the network's input, and the training targets."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from mtl_jax.attributes.base import Attribute
from mtl_jax.config.options.data import DataOptions
from mtl_jax.config.options.mask_rcnn import MaskRCNNOptions
from mtl_jax.config.resolve import resolve
from mtl_jax.data.datasets import splits
from mtl_jax.data.datasets.sources import Opened, open_sources
from mtl_jax.data.loader import transforms
from mtl_jax.data.loader.collate import find_record
from mtl_jax.data.pixels import check_size, materialize, notice_of, read_pixels
from mtl_jax.data.readers.folders import look_at
from mtl_jax.data.records import Category, Record, Source, named
from mtl_jax.errors import UserError, summarize
from mtl_jax.models.backbones import make_backbone, pyramid_strides
from mtl_jax.results import Result
from mtl_jax.runs.objects import Objects, count_splits
from mtl_jax.types import Batch
from mtl_jax.visualize.data_page.objects import add_objects
from mtl_jax.visualize.data_page.statistics import (
    DataNumbers,
    best_overlaps,
    measure,
    suggest_anchors,
)
from mtl_jax.visualize.data_page.training_examples import add_anchors, add_regions
from mtl_jax.visualize.drawing import plots
from mtl_jax.visualize.drawing.annotations import (
    crop_padding,
    record_result,
    row_pixels,
    row_result,
)
from mtl_jax.visualize.drawing.draw import as_rgb, draw, enlarge
from mtl_jax.visualize.drawing.palette import class_color
from mtl_jax.visualize.drawing.sheets import sheet
from mtl_jax.visualize.page import Page

_log = logging.getLogger(__name__)
SHOWN = 4  # images on a sheet
CLASSES = 4  # whose masks are shown


@dataclass(frozen=True)
class Shown:
    """The data that a page shows, and the options of the model to be trained."""

    opened: Opened
    attributes: Sequence[Attribute]
    data: DataOptions
    model: MaskRCNNOptions | None  # None: a model without anchors and regions
    seed: int = 0
    objects: Objects | None = None  # of splits train and val

    @property
    def full_size_masks(self) -> bool:
        return self.data.mask_size == 0

    @classmethod
    def from_config(cls, config: ConfigDict, split: str = "train", seed: int = 0) -> "Shown":
        """Open a split of a config's data. Records with errors are skipped and listed on the page.

        Raises UserError if there are no records.
        """
        experiment = resolve(config)
        options = replace(experiment.sources, on_error="skip")
        splits.check_name(split)
        every = open_sources(options, experiment.attributes)
        opened = every[split]
        if not opened.sources:
            raise UserError(f"the config's data has no records for split {split!r}")
        model = experiment.model if isinstance(experiment.model, MaskRCNNOptions) else None
        objects = count_splits(every, experiment)
        for line in (*objects.faults, *objects.warnings) if objects else ():
            _log.warning("%s", line)
        return cls(opened, experiment.attributes, experiment.data, model, seed, objects)

    @property
    def categories(self) -> Sequence[Category]:
        return self.opened.categories


def write_data_page(title: str, shown: Shown, limit: int, folder: Path) -> Path:
    """Write the page and return its path.

    Statistics cover the first `limit` records; the images are chosen from all records.
    """
    page = Page(title)
    sources = shown.opened.sources
    total = sum(map(len, sources))
    measured = range(min(limit, total))
    faults: list[str] = []
    numbers = measure(
        _records(sources, measured, faults),
        shown.categories,
        shown.attributes,
        shown.data.resize,
    )
    chosen = _choose(sources, limit, shown.seed)
    records = [materialize(find_record(sources, i)) for i in chosen]
    notices = [found for r in records if (found := notice_of(r, shown.data.channels))]
    _add_counts(page, shown, numbers, total)
    _add_problems(page, shown, faults, notices, numbers)
    add_objects(page, shown.objects)
    _add_sizes(page, numbers)
    _add_labels(page, numbers)
    if shown.model is not None:
        _add_anchor_fit(page, shown.model, numbers)
    if chosen:
        _add_samples(page, shown, records)
        _add_input(page, shown, records, chosen)
        if shown.model is not None:
            row = _row(shown, records[0], chosen[0], augmented=False)
            add_anchors(page, shown.model, row, shown.seed)
            add_regions(page, shown.model, row, shown.categories, shown.full_size_masks, shown.seed)
    return page.write(folder)


def _records(
    sources: Sequence[Source], positions: Iterable[int], faults: list[str]
) -> Iterator[Record]:
    """Yield the records at `positions` and append errors of their images to `faults`.

    Records that cannot be loaded are skipped.
    """
    for position in positions:
        try:
            record = find_record(sources, position)
            with named(record):
                record = materialize(record)
        except UserError as error:  # drawing a mask reads the image
            faults.append(str(error))
            continue
        if fault := _fault_of(record):
            faults.append(fault)
        yield record


def _fault_of(record: Record) -> str:
    """Return what is wrong with a record's image; '' if nothing is.

    Of a file, only the header and the end are checked.
    """
    image = record.image
    if isinstance(image, bytes):
        return ""
    try:
        check_size(record, look_at(image) if isinstance(image, Path) else image.shape[:2])
    except ValueError as error:
        return f"{record.place}: {error}"
    return ""


def _choose(sources: Sequence[Source], limit: int, seed: int) -> list[int]:
    """Return positions of up to SHOWN random records without faults and with objects.

    At most `limit` records are examined.
    """

    def is_fit(position: int) -> bool:
        faults: list[str] = []
        instances = [i for r in _records(sources, [position], faults) for i in r.instances]
        return not faults and not all(instance.crowd for instance in instances)

    order = np.random.default_rng(seed).permutation(sum(map(len, sources)))[:limit].tolist()
    return list(islice(filter(is_fit, order), SHOWN))


def _add_counts(page: Page, shown: Shown, numbers: DataNumbers, total: int) -> None:
    page.heading("Overview")
    objects = sum(numbers.instances)
    rows: list[tuple[str, object]] = [
        ("images", total),
        ("images measured", numbers.images),
        ("images without objects (negatives)", numbers.instances.count(0)),
        ("objects", objects),
        ("objects without a mask", numbers.without_masks),
        ("crowds", numbers.crowds),
        ("objects per image (mean)", float(np.mean(numbers.instances or [0]))),
        ("objects per image (maximum)", max(numbers.instances, default=0)),
    ]
    page.table(("", "number"), rows)
    page.table(
        ("class", "objects", "share"),
        [
            (c.name, numbers.classes[c.name], numbers.classes[c.name] / max(objects, 1))
            for c in shown.categories
        ],
    )


def _add_problems(
    page: Page,
    shown: Shown,
    faults: Sequence[str],
    notices: Sequence[str],
    numbers: DataNumbers,
) -> None:
    page.heading("Problems")
    if shown.opened.skipped:
        page.text(f"{len(shown.opened.skipped)} records or labels were skipped:")
        page.list(summarize(shown.opened.skipped))
    if faults:
        page.text(f"{len(faults)} invalid images, which stop training unless on_error is 'skip':")
        page.list(summarize(faults))
    if notices:
        page.text("Of the images shown below:")
        page.list(notices)
    unlabelled = [name for name, found in numbers.values.items() if not found]
    if unlabelled:
        page.text(f"Attributes without a label in the {numbers.images} images measured:")
        page.list(unlabelled)
    empty = not numbers.boxes and not numbers.crowds
    if empty:
        page.text(f"The {numbers.images} images measured have no annotations.")
    if not any((shown.opened.skipped, faults, notices, unlabelled, empty)):
        page.text("No problems found.")
    if shown.opened.notes:
        page.text("Notes:")
        page.list(shown.opened.notes)
    if shown.opened.undeclared:
        page.text("Labels that no attribute of the config reads:")
        page.list(summarize(shown.opened.undeclared))


def _add_sizes(page: Page, numbers: DataNumbers) -> None:
    page.heading("Distributions")
    sizes, boxes = np.reshape(numbers.sizes, (-1, 2)), np.reshape(numbers.boxes, (-1, 4))
    sides = boxes[:, 2:] - boxes[:, :2]
    placed = np.reshape(numbers.placed, (-1, 4))
    box_sizes = np.sqrt((placed[:, 2:] - placed[:, :2]).prod(1))
    page.image("classes", plots.bars(numbers.classes, "objects"), "Objects by class")
    page.image(
        "instances_per_image",
        plots.histogram(numbers.instances, "objects"),
        "Objects per image",
    )
    page.image(
        "image_sizes",
        plots.histogram(sizes.max(1, initial=0), "pixels"),
        "Longer side of the images",
    )
    page.image(
        "box_sizes",
        plots.histogram(box_sizes, "pixels", log=True),
        "Square root of the box area, in pixels of the network's input",
    )
    page.image(
        "aspect_ratios",
        plots.histogram(sides[:, 1] / sides[:, 0], "height / width", log=True),
        "Aspect ratio of the boxes, height / width",
    )


def _add_labels(page: Page, numbers: DataNumbers) -> None:
    if not numbers.values:
        return
    page.heading("Attributes")
    page.table(
        ("attribute", "labels", "missing"),
        [(name, len(found), numbers.missing[name]) for name, found in numbers.values.items()],
    )
    for name, found in numbers.values.items():
        if found and isinstance(found[0], str):
            counts = {value: float(found.count(value)) for value in sorted(set(found))}
            image = plots.bars(counts, "labels")
        else:
            image = plots.histogram(found, name)
        page.image(f"attribute_{name.replace('/', '.')}", image, f"Labels of {name}")


def _add_anchor_fit(page: Page, options: MaskRCNNOptions, numbers: DataNumbers) -> None:
    rpn = options.rpn
    strides = pyramid_strides(make_backbone(options.backbone, train=False, dtype=options.dtype))
    page.heading("Anchor fit")
    boxes = np.reshape(numbers.placed, (-1, 4)).astype(float)
    boxes = boxes[(boxes[:, 2:] - boxes[:, :2]).min(1, initial=1e9) > 0]
    if not len(boxes):
        page.text("There are no boxes.")
        return
    suggested = suggest_anchors(boxes, rpn.anchor_sizes, strides)
    rows = []
    for name, sizes, ratios in (
        ("config", rpn.anchor_sizes, rpn.anchor_ratios),
        ("suggested", *suggested),
    ):
        best = best_overlaps(boxes, sizes, ratios, strides)
        found = [float((best >= iou).mean()) for iou in (0.5, rpn.positive_iou)]
        rows.append(
            (name, str([list(s) for s in sizes]), str(list(ratios)), *found, float(best.mean()))
        )
    page.text(
        "The recall of an anchor set is the share of boxes that an anchor overlaps by at least the "
        "given IoU. Training also uses the best anchor of each other box as a positive example."
    )
    header = (
        "anchors",
        "sizes",
        "ratios",
        "recall at 0.5",
        f"recall at {rpn.positive_iou}",
        "mean IoU",
    )
    page.table(header, rows)
    if rows[1][-1] > rows[0][-1] + 0.02:
        page.text("To use the suggested anchors, set in the config:")
        page.code(
            [
                f"config.model.rpn.anchor_sizes = {suggested[0]}",
                f"config.model.rpn.anchor_ratios = {suggested[1]}",
            ]
        )


def _add_samples(page: Page, shown: Shown, records: Sequence[Record]) -> None:
    page.heading("Annotated images")
    results = [record_result(r, shown.categories, shown.attributes) for r in records]
    pixels = [as_rgb(read_pixels(r, shown.data.channels)) for r in records]
    drawn = [draw(*enlarge(p, result)) for p, result in zip(pixels, results, strict=True)]
    names = [record.file_name for record in records]
    page.image("samples", sheet(drawn, 2, names, (440, 560)), "Boxes, masks and attributes")
    page.image("instances", drawn[0], f"Objects of {names[0]}")
    found = Counter(name for result in results for name in result.class_names)
    kinds = [kind for kind, _ in found.most_common(CLASSES)]
    cells, captions = [], []
    for image, result, name in zip(pixels, results, names, strict=True):
        cells += [image, *(_class_mask(result, kind) for kind in kinds)]
        captions += [name, *kinds]
    if any(result.masks is not None for result in results):
        page.image(
            "top_masks",
            sheet(cells, 1 + len(kinds), captions, (200, 220)),
            "Masks of the most frequent classes of these images",
        )
    if results[0].masks is not None:
        masks = [255 * m.astype(np.uint8) for m in results[0].masks[:12]]
        page.image(
            "masks", sheet(masks, 4, results[0].class_names[:12], (200, 260)), "Individual masks"
        )


def _class_mask(result: Result, kind: str) -> np.ndarray:
    image = np.zeros((result.height, result.width, 3), np.uint8)
    for i, name in enumerate(result.class_names):
        if name == kind and result.masks is not None:
            image[result.masks[i]] = class_color(name)
    return image


def _row(shown: Shown, record: Record, index: int, augmented: bool, draw_number: int = 0) -> Batch:
    rng = np.random.default_rng((shown.seed, index, draw_number)) if augmented else None
    return transforms.load(record, index, shown.attributes, shown.data, rng)


def _result(shown: Shown, row: Batch) -> Result:
    return row_result(row, shown.categories, shown.attributes, shown.full_size_masks)


def _draw_row(shown: Shown, row: Batch) -> np.ndarray:
    return draw(*enlarge(row_pixels(row), _result(shown, row)))


def _add_input(page: Page, shown: Shown, records: Sequence[Record], indices: Sequence[int]) -> None:
    page.heading("Network input")
    rows = [_row(shown, r, i, augmented=False) for r, i in zip(records, indices, strict=True)]
    drawn = [_draw_row(shown, row) for row in rows]
    captions = [f"{row.images.shape[1]} x {row.images.shape[0]}" for row in rows]
    page.image("resized", sheet(drawn, 2, captions, (440, 560)), "Resized and padded")
    varied = [
        _draw_row(shown, _row(shown, record, i, True, k))
        for record, i in zip(records[:2], indices[:2], strict=True)
        for k in range(3)
    ]
    page.image("augmented", sheet(varied, 3, (), (360, 400)), "Augmented as in training")
    row = _row(shown, records[0], indices[0], augmented=True)
    result = _result(shown, row)
    if result.mask_probabilities is not None:
        masks = [np.rint(255 * m).astype(np.uint8) for m in result.mask_probabilities[:12]]
        side = shown.data.mask_size
        page.image(
            "training_masks",
            sheet(masks, 6, result.class_names[:12], (160, 160)),
            f"Masks used in training, {side} x {side} cells of their boxes",
        )
        page.image(
            "training_masks_overlay",
            crop_padding(row, draw(row_pixels(row), _result(shown, row))),
            "The same masks on the image",
        )
