"""The blocks of a config that name data: checked, completed, and where their data lies."""

import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtl_jax.config.options.data import SHORT, SourceOptions
from mtl_jax.data.datasets import splits
from mtl_jax.data.datasets.compose_chips import SceneSource
from mtl_jax.data.readers.format import Format
from mtl_jax.data.readers.formats import FORMATS
from mtl_jax.errors import UserError, suggest

DATA_ROOT = "MTL_JAX_DATA"  # the variable that names the folder of all data
_COMMON: dict[str, Any] = {
    "format": "",
    "name": "",  # in splits.json; "": the format's
    "path": "",  # below the data root; "": the format's usual folder
    "split": "",  # train, val or test: wholly that; "": divided by group
    "rename": {},  # classes by the names that they are to have, as {"head": "face"}
    "labels": {},  # what all of its things are labelled, as {"masked": "yes"}, but for their own
    "weight": 1.0,  # how often each record comes in an epoch of training
    "repeat_threshold": 0.0,  # classes in a smaller share of the pictures come more often
    "exhaustive": None,  # None: as the format says
    "cache": False,  # True: records are made once and kept in memory, for costly ones
    "masks": 0.0,  # probability that a picture's faces wear masks, always the same ones
    "mask_seed": 0,
    "mask_splits": ("train", "val", "test", "external"),  # in which they do
    "scene": {},  # options of SceneSource: compose chips to scenes
    "attribute_keys": {},
    "attribute_preset": "",
}
_SCENE = {
    name: parameter.default
    for name, parameter in inspect.signature(SceneSource).parameters.items()
    if name not in ("chips", "attributes")
}


def merge_short(options: SourceOptions) -> list[dict[str, Any]]:
    """Give the blocks, the short fields in the first."""
    blocks = [dict(block) for block in options.sources]
    short = {name: vars(options)[name] for name in SHORT if vars(options)[name]}
    if not blocks and not short:
        raise UserError("config.data names no data; set config.data.format, or config.data.sources")
    return [{**(blocks[0] if blocks else {}), **short}, *blocks[1:]]


def complete(block: Mapping[str, Any]) -> dict[str, Any]:
    """Give a block with every key its format has. Raises UserError at an unknown key or value."""
    name = block.get("format", "")
    if name not in FORMATS:
        known = ", ".join(FORMATS)
        raise UserError(f"config.data: format {name!r} is none of {known}{suggest(name, FORMATS)}")
    full = {**_COMMON, **FORMATS[name].options}
    _check(block, full, f"config.data, a {name} source")
    scene = block.get("scene") or {}
    _check(scene, _SCENE, f"config.data, the scene of a {name} source")
    full = {**full, **block, "scene": dict(scene)}
    if full["split"] not in ("", *splits.NAMES):
        raise UserError(
            f"config.data: split {full['split']!r} is none of {', '.join(splits.NAMES)}"
        )
    if not 0 <= full["repeat_threshold"] <= 1:
        raise UserError(f"config.data: repeat_threshold of a {name} source is not within 0 and 1")
    if not 0 <= full["masks"] <= 1:
        raise UserError(f"config.data: masks of a {name} source is not within 0 and 1")
    if full["weight"] < 0:
        raise UserError(f"config.data: weight {full['weight']} of a {name} source is negative")
    return full


def describe_people(options: SourceOptions) -> tuple[str, ...]:
    """Say what labels of people are, a line for each block whose format has such."""
    lines = []
    for block in map(complete, merge_short(options)):
        kind = FORMATS[block["format"]]
        if not kind.people:
            continue
        line = f"{block['format']} ({kind.origin}): {kind.people}"
        if block["masks"]:
            line += f"; {block['masks']:.0%} of its faces in {', '.join(block['mask_splits'])} wear"
            line += " masks that are drawn"
        lines.append(line)
    return tuple(lines)


def _check(given: Mapping[str, Any], known: Mapping[str, Any], where: str) -> None:
    for key, value in given.items():
        if key not in known:
            allowed = ", ".join(sorted(known))
            raise UserError(
                f"{where}: no key {key!r}{suggest(key, known) or f'; there are {allowed}'}"
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
            raise UserError(f"{where}: {key} is {value!r} and wants {_example(default)}")


def _example(default: Any) -> str:
    return "True or False" if default is None else f"the like of {default!r}"


def name_all(blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give each block a name of its own: the format's, with a number from the second on."""
    taken: set[str] = set()
    for block in blocks:
        name, number = block["name"] or block["format"], 1
        while name in taken:
            if block["name"]:
                raise UserError(f"config.data: two sources are named {name!r}")
            number += 1
            name = f"{block['format']}-{number}"
        taken.add(name)
        block["name"] = name
    return blocks


def find_folder(block: Mapping[str, Any], kind: Format) -> Path:
    """Find the data of a block. Raises UserError that says where to get it."""
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
        f"{tried[0]}: no {block['format']} data there; get it from {kind.origin}, {place}, or set "
        "config.data.path"
    )
