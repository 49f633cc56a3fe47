"""A page that shows a data set as it is, as training sees it, and what training makes of it."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from mtl_jax.attributes.base import Attribute
from mtl_jax.config.options.data import DataOptions
from mtl_jax.config.options.mask_rcnn import MaskRCNNOptions, RpnOptions
from mtl_jax.config.resolve import resolve
from mtl_jax.data.datasets.sources import Opened, open_split
from mtl_jax.data.loader import transforms
from mtl_jax.data.loader.pipeline import find_record
from mtl_jax.data.pixels import check_size, materialize, read_pixels
from mtl_jax.data.readers.folders import look_at
from mtl_jax.data.records import Category, Record, Source, named
from mtl_jax.errors import UserError
from mtl_jax.models.padding import STRIDES
from mtl_jax.results import Result
from mtl_jax.types import Batch
from mtl_jax.visualize.data_page.statistics import (
    DataNumbers,
    best_overlaps,
    measure,
    suggest_anchors,
)
from mtl_jax.visualize.data_page.training_examples import add_anchors, add_regions
from mtl_jax.visualize.drawing import plots
from mtl_jax.visualize.drawing.annotations import (
    cut_to_picture,
    record_result,
    row_pixels,
    row_result,
)
from mtl_jax.visualize.drawing.draw import as_rgb, draw, enlarge
from mtl_jax.visualize.drawing.palette import class_color
from mtl_jax.visualize.drawing.sheets import sheet
from mtl_jax.visualize.page import Page

SHOWN = 4  # pictures on a sheet
CLASSES = 4  # whose masks are shown


@dataclass(frozen=True)
class Shown:
    """What a page is made of."""

    opened: Opened
    attributes: Sequence[Attribute]
    data: DataOptions
    model: MaskRCNNOptions | None  # None: a model without anchors and regions
    seed: int = 0

    @property
    def full_size_masks(self) -> bool:
        return self.data.mask_size == 0

    @classmethod
    def from_config(cls, config: ConfigDict, split: str = "train", seed: int = 0) -> "Shown":
        """Open a split of a config's data; records with faults are listed and left out. Raises
        UserError where there are no records.
        """
        experiment = resolve(config)
        options = replace(experiment.sources, on_error="skip")
        opened = open_split(options, experiment.attributes, split)
        if not opened.sources:
            raise UserError(f"the config's data has no records for split {split!r}")
        model = experiment.model if isinstance(experiment.model, MaskRCNNOptions) else None
        return cls(opened, experiment.attributes, experiment.data, model, seed)

    @property
    def categories(self) -> Sequence[Category]:
        return self.opened.categories


def write_data_page(title: str, shown: Shown, limit: int, folder: Path) -> Path:
    """Write the page, with the numbers of the first `limit` records and with pictures of any, and
    give its path.
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
    _add_counts(page, shown, numbers, total)
    _add_problems(page, shown, faults, numbers)
    _add_sizes(page, numbers)
    _add_labels(page, numbers)
    if shown.model is not None:
        _add_anchor_fit(page, shown.model.rpn, numbers)
    chosen = _choose(sources, limit, shown.seed)
    if chosen:
        records = [materialize(find_record(sources, i)) for i in chosen]
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
    """Give the records at positions but those that cannot be made; add what is wrong with the
    pictures to `faults`.
    """
    for position in positions:
        try:
            record = find_record(sources, position)
            with named(record):
                record = materialize(record)
        except UserError as error:  # masks are drawn on pictures that are read
            faults.append(str(error))
            continue
        if fault := _fault_of(record):
            faults.append(fault)
        yield record


def _fault_of(record: Record) -> str:
    """Say what is wrong with a record's picture, of a file by its first bytes and its end; '' for
    nothing.
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
    """Choose positions of a few faultless records with things on them, the same for the same seed;
    at most `limit` are looked at.
    """

    def is_fit(position: int) -> bool:
        faults: list[str] = []
        things = [t for r in _records(sources, [position], faults) for t in r.instances]
        return not faults and not all(thing.crowd for thing in things)

    order = np.random.default_rng(seed).permutation(sum(map(len, sources)))[:limit].tolist()
    return list(islice(filter(is_fit, order), SHOWN))


def _add_counts(page: Page, shown: Shown, numbers: DataNumbers, total: int) -> None:
    page.heading("What is there")
    things = sum(numbers.instances)
    rows: list[tuple[str, object]] = [
        ("pictures", total),
        ("of them measured here", numbers.pictures),
        ("without things (negatives)", numbers.instances.count(0)),
        ("things", things),
        ("without a mask", numbers.without_masks),
        ("crowds", numbers.crowds),
        ("things on a picture, mean", float(np.mean(numbers.instances or [0]))),
        ("most things on a picture", max(numbers.instances, default=0)),
    ]
    page.table(("", "number"), rows)
    page.table(
        ("class", "things", "share"),
        [
            (c.name, numbers.classes[c.name], numbers.classes[c.name] / max(things, 1))
            for c in shown.categories
        ],
    )
    over = sum(count > shown.data.max_instances for count in numbers.instances)
    if over:
        page.text(
            f"{over} pictures hold more things than config.data.max_instances="
            f"{shown.data.max_instances}; what is beyond is not trained on."
        )


def _add_problems(page: Page, shown: Shown, faults: Sequence[str], numbers: DataNumbers) -> None:
    page.heading("Problems")
    if shown.opened.skipped:
        page.text(f"{len(shown.opened.skipped)} records or labels are left out:")
        page.list(shown.opened.skipped)
    if faults:
        page.text(f"{len(faults)} pictures will stop the training, unless on_error is 'skip':")
        page.list(faults)
    unlabelled = [name for name, found in numbers.values.items() if not found]
    if unlabelled:
        page.text(f"Labels that nothing on the {numbers.pictures} measured pictures has:")
        page.list(unlabelled)
    empty = not numbers.boxes and not numbers.crowds
    if empty:
        page.text(f"Nothing is annotated on the {numbers.pictures} measured pictures.")
    if not shown.opened.skipped and not faults and not unlabelled and not empty:
        page.text("None found.")
    if shown.opened.undeclared:
        page.text("Labels that no attribute of the config reads:")
        page.list(shown.opened.undeclared)


def _add_sizes(page: Page, numbers: DataNumbers) -> None:
    page.heading("Sizes")
    sizes, boxes = np.reshape(numbers.sizes, (-1, 2)), np.reshape(numbers.boxes, (-1, 4))
    sides = boxes[:, 2:] - boxes[:, :2]
    placed = np.reshape(numbers.placed, (-1, 4))
    on_canvas = np.sqrt((placed[:, 2:] - placed[:, :2]).prod(1))
    page.picture("classes", plots.bars(numbers.classes, "things"), "Things of each class")
    page.picture(
        "instances_per_picture",
        plots.histogram(numbers.instances, "things on a picture"),
        "Things on a picture",
    )
    page.picture(
        "picture_sizes",
        plots.histogram(sizes.max(1, initial=0), "pixels"),
        "The pictures' longer sides",
    )
    page.picture(
        "box_sizes",
        plots.histogram(on_canvas, "pixels", log=True),
        "Boxes on the network's canvas: the square root of their area",
    )
    page.picture(
        "aspect_ratios",
        plots.histogram(sides[:, 1] / sides[:, 0], "height / width", log=True),
        "Boxes: height by width",
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
            picture = plots.bars(counts, "labels")
        else:
            picture = plots.histogram(found, name)
        page.picture(f"attribute_{name.replace('/', '.')}", picture, f"Labels of {name}")


def _add_anchor_fit(page: Page, rpn: RpnOptions, numbers: DataNumbers) -> None:
    page.heading("Anchors and boxes")
    boxes = np.reshape(numbers.placed, (-1, 4)).astype(float)
    boxes = boxes[(boxes[:, 2:] - boxes[:, :2]).min(1, initial=1e9) > 0]
    if not len(boxes):
        page.text("There are no boxes.")
        return
    suggested = suggest_anchors(boxes, rpn.anchor_sizes, STRIDES)
    rows = []
    for name, sizes, ratios in (
        ("the config's", rpn.anchor_sizes, rpn.anchor_ratios),
        ("suggested", *suggested),
    ):
        best = best_overlaps(boxes, sizes, ratios, STRIDES)
        found = [float((best >= iou).mean()) for iou in (0.5, rpn.positive_iou)]
        rows.append(
            (name, str([list(s) for s in sizes]), str(list(ratios)), *found, float(best.mean()))
        )
    page.text(
        "The recall of an anchor set is the share of boxes that some anchor overlaps by so much; a "
        "box that none does still has its best one as an example."
    )
    header = ("anchors", "sizes", "ratios", "recall at 0.5", f"at {rpn.positive_iou}", "mean IoU")
    page.table(header, rows)
    if rows[1][-1] > rows[0][-1] + 0.02:
        page.text("To use the suggested set, in the config:")
        page.code(
            [
                f"config.model.rpn.anchor_sizes = {suggested[0]}",
                f"config.model.rpn.anchor_ratios = {suggested[1]}",
            ]
        )


def _add_samples(page: Page, shown: Shown, records: Sequence[Record]) -> None:
    page.heading("Pictures as annotated")
    results = [record_result(r, shown.categories, shown.attributes) for r in records]
    pixels = [as_rgb(read_pixels(r, shown.data.channels)) for r in records]
    drawn = [draw(*enlarge(p, result)) for p, result in zip(pixels, results, strict=True)]
    names = [record.file_name for record in records]
    page.picture("samples", sheet(drawn, 2, names, (440, 560)), "Boxes, masks and attributes")
    page.picture("instances", drawn[0], f"{names[0]}: its things")
    found = Counter(name for result in results for name in result.class_names)
    kinds = [kind for kind, _ in found.most_common(CLASSES)]
    cells, captions = [], []
    for picture, result, name in zip(pixels, results, names, strict=True):
        cells += [picture, *(_class_mask(result, kind) for kind in kinds)]
        captions += [name, *kinds]
    if any(result.masks is not None for result in results):
        page.picture(
            "top_masks",
            sheet(cells, 1 + len(kinds), captions, (200, 220)),
            "Masks of the classes that are commonest here",
        )
    if results[0].masks is not None:
        masks = [255 * m.astype(np.uint8) for m in results[0].masks[:12]]
        page.picture(
            "masks", sheet(masks, 4, results[0].class_names[:12], (200, 260)), "Masks one by one"
        )


def _class_mask(result: Result, kind: str) -> np.ndarray:
    picture = np.zeros((result.height, result.width, 3), np.uint8)
    for i, name in enumerate(result.class_names):
        if name == kind and result.masks is not None:
            picture[result.masks[i]] = class_color(name)
    return picture


def _row(shown: Shown, record: Record, index: int, augmented: bool, draw_number: int = 0) -> Batch:
    rng = np.random.default_rng((shown.seed, index, draw_number)) if augmented else None
    return transforms.load(record, index, shown.attributes, shown.data, rng)


def _result(shown: Shown, row: Batch) -> Result:
    return row_result(row, shown.categories, shown.attributes, shown.full_size_masks)


def _draw_row(shown: Shown, row: Batch) -> np.ndarray:
    return draw(*enlarge(row_pixels(row), _result(shown, row)))


def _add_input(page: Page, shown: Shown, records: Sequence[Record], indices: Sequence[int]) -> None:
    page.heading("As the network sees them")
    rows = [_row(shown, r, i, augmented=False) for r, i in zip(records, indices, strict=True)]
    drawn = [_draw_row(shown, row) for row in rows]
    captions = [f"{row.images.shape[1]} x {row.images.shape[0]}" for row in rows]
    page.picture("resized", sheet(drawn, 2, captions, (440, 560)), "Resized, on their canvas")
    varied = [
        _draw_row(shown, _row(shown, record, i, True, k))
        for record, i in zip(records[:2], indices[:2], strict=True)
        for k in range(3)
    ]
    page.picture("augmented", sheet(varied, 3, (), (360, 400)), "Augmented, as training draws them")
    row = _row(shown, records[0], indices[0], augmented=True)
    result = _result(shown, row)
    if result.mask_probabilities is not None:
        masks = [np.rint(255 * m).astype(np.uint8) for m in result.mask_probabilities[:12]]
        side = shown.data.mask_size
        page.picture(
            "training_masks",
            sheet(masks, 6, result.class_names[:12], (160, 160)),
            f"The masks that training sees, {side} x {side} on their boxes",
        )
        page.picture(
            "training_masks_overlay",
            cut_to_picture(row, draw(row_pixels(row), _result(shown, row))),
            "The same laid back on the picture",
        )
