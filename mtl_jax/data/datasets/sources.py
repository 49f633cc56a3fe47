"""Open the sources of each split from the source blocks of a config."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, count
from pathlib import Path
from typing import Any, NamedTuple

from mtl_jax.attributes.base import Attribute, Label, parse_labels
from mtl_jax.config.options.data import SourceOptions
from mtl_jax.data.datasets import access, splits
from mtl_jax.data.datasets.blocks import complete, find_folder, merge_short, name_all
from mtl_jax.data.datasets.cache import InMemory
from mtl_jax.data.datasets.compose_chips import SceneSource
from mtl_jax.data.datasets.repeat import repeat_rare
from mtl_jax.data.datasets.shared_images import shared_images
from mtl_jax.data.datasets.split_assignment import divide, find_stored, keys, to_store
from mtl_jax.data.datasets.subset import Subset
from mtl_jax.data.face_masks.apply import DrawMasks, with_masks
from mtl_jax.data.readers.format import Labels
from mtl_jax.data.readers.formats import FORMATS
from mtl_jax.data.records import Category, Source
from mtl_jax.errors import AnnotationErrors, UserError, listed, suggest, summarize
from mtl_jax.images.decode import Levels
from mtl_jax.io.atomic import write_json

_log = logging.getLogger(__name__)


class Opened(NamedTuple):
    """The sources of one split, their weights and common classes, and messages on their data."""

    sources: tuple[Source, ...]
    weights: tuple[float, ...]
    categories: tuple[Category, ...]
    skipped: tuple[str, ...] = ()  # one line for each record or label that was left out
    undeclared: tuple[str, ...] = ()  # one line for each annotated label without an attribute
    repeat_thresholds: tuple[float, ...] = ()  # of each source, for `repeated`
    names: tuple[str, ...] = ()  # of each source's block
    notes: tuple[str, ...] = ()  # how files were found, shared images and classes without labels

    def repeated(self) -> "Opened":
        """Return the sources for training, in which images with rare classes are repeated."""
        thresholds = self.repeat_thresholds or (0.0,) * len(self.sources)
        pairs = zip(self.sources, thresholds, strict=True)
        repeated = tuple(repeat_rare(source, t) if t else source for source, t in pairs)
        return self._replace(sources=repeated, repeat_thresholds=(0.0,) * len(repeated))


def open_sources(
    options: SourceOptions,
    attributes: Sequence[Attribute],
    splits_file: Path | None = None,
    *,
    categories: Sequence[Category] = (),
    wanted: Sequence[str] = splits.NAMES,
) -> dict[str, Opened]:
    """Open all blocks and return the sources of each of the `wanted` splits.

    The assignment of records to splits is read from `splits_file` if it exists; otherwise it is
    computed, and written to `splits_file` if one is given. The classes are `categories` (those of a
    trained model) if given, otherwise those of all sources, merged by name. Raises UserError if a
    block, its data or its labels are wrong.
    """
    blocks = name_all([complete(block) for block in merge_short(options)])
    stored = splits.read(splits_file) if splits_file and splits_file.is_file() else None
    if stored is not None and categories:  # blocks of other splits are not needed
        blocks = [block for block in blocks if block["split"] in ("", *wanted)]
    sources = [_open(block, options, attributes) for block in blocks]
    named = [_categories(b, source) for b, source in zip(blocks, sources, strict=True)]
    united = tuple(categories) or _unite(named)
    skipped = sum((source.skipped for source in sources), ())
    notes = sum((source.notes for source in sources), ())
    if stored is None:
        notes += (*shared_images(blocks, sources), *_unlabelled(blocks, named, united))
    for note in notes:
        _log.warning("%s", note)
    undeclared = sum((source.undeclared for source in sources), ())
    nothing = Opened((), (), united, skipped, undeclared, notes=notes)
    result = dict.fromkeys(wanted, nothing)
    every_key = [keys(source) for source in sources]
    if stored is None:
        divided = divide(blocks, sources, every_key, options.fractions, options.split_seed)
    else:
        pairs = zip(blocks, every_key, strict=True)
        divided = [find_stored(block["name"], of, stored, splits_file) for block, of in pairs]
    for block, source, found in zip(blocks, sources, divided, strict=True):
        for name, positions in found.items():
            if name in wanted and positions:
                part = _part(block, source, positions, united, attributes, name, options.levels)
                result[name] = _append(result[name], part, block)
        counts = ", ".join(f"{name} {len(positions)}" for name, positions in found.items())
        _log.info("%s: %d records (%s)", block["name"], len(source), counts)
    if splits_file is not None and stored is None:
        names = [block["name"] for block in blocks]
        write_json(splits_file, to_store(names, every_key, divided), readable=False)
    return result


def open_split(
    options: SourceOptions,
    attributes: Sequence[Attribute],
    split: str,
    splits_file: Path | None = None,
    *,
    categories: Sequence[Category] = (),
) -> Opened:
    """Open the sources of one split; see `open_sources`."""
    splits.check_name(split)
    opened = open_sources(
        options,
        attributes,
        splits_file,
        categories=categories,
        wanted=(split,),
    )
    return opened[split]


def open_external(
    path: str | Path,
    options: SourceOptions,
    attributes: Sequence[Attribute],
    *,
    categories: Sequence[Category] = (),
) -> Opened:
    """Open all records of another folder (or COCO file) with the format of the first source block
    that can read it. Raises UserError with the fault of each block if none can.
    """
    if not Path(path).exists():
        raise UserError(f"{path}: no such folder or file")
    place = {"path": str(Path(path).absolute()), "name": "external"}
    if options.named is not None:
        options = replace(options, named=options.named | {place["path"]})
    blocks = [complete({**block, **place}) for block in merge_short(options)]
    fitting = [block for block in blocks if FORMATS[block["format"]].folders]
    if not fitting:
        known = ", ".join(dict.fromkeys(block["format"] for block in blocks))
        raise UserError(f"{path}: the config's data is {known}, which is not read from a folder")
    faults = []
    for block in fitting:
        try:
            opened = _open_external(path, block, options, attributes, categories)
        except UserError as error:
            faults.append(error)
        else:
            _log.info("%s: read as %s", path, block["format"])
            for note in opened.notes:
                _log.warning("%s", note)
            return opened
    if len(faults) == 1:
        raise faults[0]
    pairs = zip(fitting, faults, strict=True)
    lines = dict.fromkeys(f"as {block['format']}: {_shorten(fault)}" for block, fault in pairs)
    raise UserError("\n".join([f"{path}: does not match any of the config's sources", *lines]))


def _shorten(error: UserError) -> str:
    first, *more = error.faults if isinstance(error, AnnotationErrors) else str(error).split("\n")
    return f"{first} (and {len(more)} more)" if more else first


def _open_external(
    path: str | Path,
    block: dict[str, Any],
    options: SourceOptions,
    attributes: Sequence[Attribute],
    categories: Sequence[Category],
) -> Opened:
    without_classes = block["format"] == "masks" or block.get("class_attribute") == ""
    if "categories" in block and not without_classes:  # otherwise it is the class of all instances
        block["categories"] = ()  # the model's classes are used
    # These fields describe the config's own data.
    block["labels"], block["exhaustive"] = {}, None
    for key in {"group_key", "image_set"} & block.keys():
        block[key] = ""  # all records are used, without splits
    base = Path(path) if Path(path).is_dir() else Path(path).parent
    for key in {"annotations", "images"} & block.keys():
        if not (base / block[key]).exists():
            block[key] = ""  # search for them
    source = _open(block, options, attributes)
    names = {category.name for category in source.categories}
    block["rename"] = {old: new for old, new in block["rename"].items() if old in names}
    united = tuple(categories) or _categories(block, source)
    every = range(len(source))
    part = _part(block, source, every, united, attributes, "external", options.levels)
    return Opened(
        (part,),
        (1.0,),
        united,
        repeat_thresholds=(0.0,),
        names=(block["name"],),
        skipped=tuple(source.skipped),
        undeclared=tuple(source.undeclared),
        notes=tuple(source.notes),
    )


def _open(
    block: Mapping[str, Any],
    options: SourceOptions,
    attributes: Sequence[Attribute],
) -> Source:
    kind = FORMATS[block["format"]]
    _block_labels(block, attributes)
    labels = Labels(
        attributes,
        block["attribute_keys"] or options.attribute_keys,
        block["attribute_preset"] or options.attribute_preset,
        options.on_error,
    )
    try:
        folder = find_folder(block, kind)
        if options.named is not None:
            access.check_block(block, kind, folder, options.named)
        source = kind.open(folder, block, labels)
    except ValueError as error:  # a wrong option
        raise UserError(f"config.data: source {block['name']}: {error}") from None
    if options.named is not None:
        access.check_images(block, source, options.named)
    for line in summarize(source.skipped):
        _log.warning("skipped %s", line)
    for line in summarize(source.undeclared):
        _log.info("%s", line)
    if not len(source):
        raise UserError(f"config.data: source {block['name']} has no records")
    return source


def _block_labels(block: Mapping[str, Any], attributes: Sequence[Attribute]) -> dict[str, Label]:
    """Parse a block's default labels of all its instances."""
    try:
        return parse_labels(with_masks(attributes), block["labels"])
    except ValueError as error:
        raise UserError(f"config.data: labels of source {block['name']}: {error}") from None


def _categories(block: Mapping[str, Any], source: Source) -> tuple[Category, ...]:
    """Return a source's classes, renamed as its block requires."""
    names, rename = [category.name for category in source.categories], block["rename"]
    for name in rename:
        if name not in names:
            mend = suggest(name, names) or f"; its classes are {', '.join(names[:10])}"
            raise UserError(
                f"config.data: source {block['name']}: rename has an unknown class {name!r}{mend}"
            )
    return tuple(c._replace(name=str(rename.get(c.name, c.name))) for c in source.categories)


def _unite(found: Sequence[Sequence[Category]]) -> tuple[Category, ...]:
    """Merge classes by name, in order. Each keeps its id in the first source that has it, unless an
    earlier class has the same id; then it gets an unused id.
    """
    every = list(chain.from_iterable(found))
    new = count(max((category.id for category in every), default=0) + 1)
    ids: dict[str, int] = {}
    for category in every:
        ids.setdefault(category.name, category.id)
    owner: dict[int, str] = {}
    return tuple(
        Category(i if owner.setdefault(i, name) == name else next(new), name)
        for name, i in ids.items()
    )


def _unlabelled(
    blocks: Sequence[Mapping[str, Any]],
    named: Sequence[Sequence[Category]],
    united: Sequence[Category],
) -> Iterator[str]:
    """Yield a line for each source that does not label all classes; see `Subset`."""
    for block, own in zip(blocks, named, strict=True):
        there = {category.name for category in own}
        missing = [category.name for category in united if category.name not in there]
        if missing and block["exhaustive"] is None:
            yield (
                f"source {block['name']} does not label {listed(missing, 10)}; its "
                "images are no background for these classes and none for the RPN; set "
                "exhaustive=True in its block if they contain no such objects"
            )


def _part(
    block: Mapping[str, Any],
    source: Source,
    positions: Sequence[int],
    united: Sequence[Category],
    attributes: Sequence[Attribute],
    split: str,
    levels: Levels,
) -> Source:
    """Return the records of one split, labelled with the merged classes. They are composed into
    scenes if the block has `scene`; only scenes for training repeat chips.
    """
    number = {category.name: i for i, category in enumerate(united, 1)}
    categories = _categories(block, source)
    classes = [number.get(category.name, 0) for category in categories]
    unknown = [category.name for category in categories if category.name not in number]
    if unknown:
        _log.warning(
            "%s: classes %s are not in the model and are not used",
            block["name"],
            ", ".join(unknown),
        )
    if len(unknown) == len(categories):
        known = ", ".join(list(number)[:10])
        raise UserError(
            f"source {block['name']} has the classes {', '.join(unknown[:10])}, but the model has "
            f"only {known}; set `rename` in the source's block"
        )
    deferred = ()
    if block["masks"] and split in block["mask_splits"]:
        try:
            deferred = (DrawMasks(tuple(attributes), block["masks"], block["mask_seed"]),)
        except ValueError as error:
            raise UserError(f"config.data: source {block['name']}: {error}") from None
    part: Source = Subset(
        source,
        positions,
        classes=classes,
        categories=tuple(united),
        labels=_block_labels(block, attributes),
        exhaustive=block["exhaustive"],
        deferred=deferred,
        levels=levels,
    )
    if block["scene"]:
        part = _compose(part, block, attributes, split)
    return InMemory(part) if block["cache"] else part


def _compose(
    part: Source, block: Mapping[str, Any], attributes: Sequence[Attribute], split: str
) -> SceneSource:
    chosen = {**block["scene"]}
    if split != "train":
        chosen["length"] = 0
    # A different seed for each split, so that no two splits share backgrounds.
    seed = 4 * chosen.pop("seed", 0) + (*splits.NAMES, "external").index(split)
    try:
        return SceneSource(part, **chosen, seed=seed, attributes=attributes)
    except ValueError as error:
        raise UserError(f"config.data: source {block['name']}: {error}") from None


def _append(opened: Opened, source: Source, block: Mapping[str, Any]) -> Opened:
    return opened._replace(
        sources=(*opened.sources, source),
        weights=(*opened.weights, float(block["weight"])),
        repeat_thresholds=(*opened.repeat_thresholds, block["repeat_threshold"]),
        names=(*opened.names, block["name"]),
    )
