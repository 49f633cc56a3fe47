"""Check and complete the source blocks of a config, and find their data."""

import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtl_jax.config.options.data import SHORT, SourceOptions, unique_names
from mtl_jax.data.datasets import splits
from mtl_jax.data.datasets.compose_chips import SceneSource
from mtl_jax.data.readers.format import Format
from mtl_jax.data.readers.formats import FORMATS
from mtl_jax.errors import UserError, suggest

DATA_ROOT = "MTL_JAX_DATA"  # environment variable: the data root, the folder of all data
_COMMON: dict[str, Any] = {
    "format": "",
    "name": "",  # in splits.json; "": the name of the format
    "path": "",  # below the data root; "": the format's default folder
    "split": "",  # train, val or test: all records are of this split; "": divided by group
    "rename": {},  # new names of classes, such as {"head": "face"}
    "labels": {},  # default labels of all instances, such as {"masked": "yes"}
    "weight": 1.0,  # how often each record is used in an epoch of training
    "repeat_threshold": 0.0,  # images of classes in a smaller fraction of the images are repeated
    "exhaustive": None,  # whether all instances are annotated; None: as the format declares
    "cache": False,  # True: records are kept in memory after their first use
    "masks": 0.0,  # fraction of the images in which face masks are drawn; the same ones each time
    "mask_seed": 0,
    "mask_splits": ("train", "val", "test", "external"),  # splits in which faces wear masks
    "scene": {},  # options of SceneSource: compose scenes from chips
    "attribute_keys": {},
    "attribute_preset": "",
}
_SCENE = {
    name: parameter.default
    for name, parameter in inspect.signature(SceneSource).parameters.items()
    if name not in ("chips", "attributes")
}


def merge_short(options: SourceOptions) -> list[dict[str, Any]]:
    """Return the blocks with the short fields merged into the first. Raises UserError if there are
    neither blocks nor short fields.
    """
    blocks = [dict(block) for block in options.sources]
    short = {name: vars(options)[name] for name in SHORT if vars(options)[name]}
    if not blocks and not short:
        raise UserError("config.data has no sources; set config.data.format or config.data.sources")
    return [{**(blocks[0] if blocks else {}), **short}, *blocks[1:]]


def complete(block: Mapping[str, Any]) -> dict[str, Any]:
    """Return a block with the defaults of its format for all missing keys. Raises UserError for an
    unknown key or a wrong value.
    """
    name = block.get("format", "")
    if name not in FORMATS:
        known = ", ".join(FORMATS)
        raise UserError(
            f"config.data: format {name!r} must be one of {known}{suggest(name, FORMATS)}"
        )
    full = {**_COMMON, **FORMATS[name].options}
    where = f"config.data: source {block.get('name') or name}"
    _check(block, full, where)
    scene = block.get("scene") or {}
    _check(scene, _SCENE, f"{where}: scene")
    full = {**full, **block, "scene": dict(scene)}
    if full["split"] not in ("", *splits.NAMES):
        raise UserError(
            f"{where}: split {full['split']!r} must be one of {', '.join(splits.NAMES)}"
        )
    for key, choices in FORMATS[name].choices.items():
        if full[key] not in choices:
            known = f"{', '.join(choices)}{suggest(full[key], choices)}"
            raise UserError(f"{where}: {key} {full[key]!r} must be one of {known}")
    for key in ("repeat_threshold", "masks"):
        if not 0 <= full[key] <= 1:
            raise UserError(f"{where}: {key} is {full[key]}; it must be between 0 and 1")
    if full["weight"] < 0:
        raise UserError(f"{where}: weight is {full['weight']}; it must be at least 0")
    return full


def describe_people(options: SourceOptions) -> tuple[str, ...]:
    """Return one line on the labels of people for each block whose format has such labels."""
    lines = []
    for block in map(complete, merge_short(options)):
        kind = FORMATS[block["format"]]
        if not kind.people:
            continue
        line = f"{block['format']} ({kind.origin}): {kind.people}"
        if block["masks"]:
            line += f"; {block['masks']:.0%} of its faces in {', '.join(block['mask_splits'])} wear"
            line += " synthetic masks"
        lines.append(line)
    return tuple(lines)


def _check(given: Mapping[str, Any], known: Mapping[str, Any], where: str) -> None:
    for key, value in given.items():
        if key not in known:
            allowed = ", ".join(sorted(known))
            raise UserError(
                f"{where}: unknown key {key!r}{suggest(key, known) or f'; the keys are {allowed}'}"
            )
        default = known[key]
        kinds: tuple[type, ...] = {
            float: (int, float),
            tuple: (list, tuple, *((int,) if key == "size" else ())),
            dict: (Mapping,),
            int: (int, list, tuple) if key == "size" else (int,),
        }.get(type(default), (type(default),))
        if default is None:
            kinds = (bool, type(None))
        wrong_bool = isinstance(value, bool) and not {bool, type(None)} & set(kinds)
        if not isinstance(value, kinds) or wrong_bool:
            raise UserError(f"{where}: {key} is {value!r}; expected {_example(default)}")


def _example(default: Any) -> str:
    return "True or False" if default is None else f"a value like {default!r}"


def name_all(blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Set a unique name for each block: by default its format, numbered from the second on.

    Modifies and returns `blocks`. Raises UserError if two blocks have the same explicit name.
    """
    names = unique_names([(block["name"], block["format"]) for block in blocks])
    for block, name in zip(blocks, names, strict=True):
        block["name"] = name
    return blocks


def find_folder(block: Mapping[str, Any], kind: Format) -> Path:
    """Return the folder or file of a block's data. If there is none, raises UserError that names
    the expected path and the origin of the data.
    """
    if not kind.folders:
        return Path()
    root = os.environ.get(DATA_ROOT, "")
    names = (block["path"],) if block["path"] else kind.folders
    bases = (Path(root), Path()) if root and block["path"] else (Path(root),)
    tried = [base / Path(name).expanduser() for base in bases for name in names]
    for folder in tried:
        if folder.exists():
            return folder
    place = (
        f"put it into {tried[0].absolute()}"
        if root or tried[0].is_absolute()
        else f"put it into a folder {names[0]} and set {DATA_ROOT} to the folder above"
    )
    raise UserError(
        f"{tried[0]}: no {block['format']} data found; get it from {kind.origin}, {place}, or set "
        f"config.data.path (or `path` of source {block['name']})"
    )
