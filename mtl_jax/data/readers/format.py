"""What every annotation format declares: how it is opened, the keys of its block in a config, and
where its data come from.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from mtl_jax.attributes.base import Attribute
from mtl_jax.data.records import Source
from mtl_jax.errors import UserError

Block = Mapping[str, Any]


class Labels(NamedTuple):
    """What a format is told about labels, and what to do at a fault."""

    attributes: Sequence[Attribute] = ()
    keys: Mapping[str, Any] = {}
    preset: str = ""
    on_error: str = "stop"


@dataclass(frozen=True)
class Format:
    """One way in which data lies on disk, or is made up (then it has no `folders`)."""

    open: Callable[[Path, Block, Labels], Source]
    options: Mapping[str, Any] = field(default_factory=dict)  # a block's keys, with defaults
    folders: tuple[str, ...] = ()  # its usual names below the data root
    origin: str = ""  # where to get it, and under what terms
    people: str = ""  # what its labels of people are, where it has such


def find_subfolder(folder: Path, name: str, usual: Sequence[str]) -> Path:
    """Give the folder in `folder` that `name` says; without one a usual one, or `folder` itself."""
    if name:
        return folder / name
    return next((folder / each for each in usual if (folder / each).is_dir()), folder)


def find_annotations(folder: Path, name: str, suffixes: Sequence[str] = (".json",)) -> Path:
    """Give the file that `name` says, or, without one, the only one in the folder or its
    annotations/ that ends in one of `suffixes`.

    `folder` may be the file itself. Raises UserError where there is none, or a choice.
    """
    if folder.is_file():
        return folder
    if name and (folder / name).is_file():
        return folder / name
    found = [
        path
        for pattern in ("*", "annotations/*")
        for path in sorted(folder.glob(pattern))
        if path.suffix.lower() in suffixes and not path.name.startswith(".")
    ]
    if len(found) == 1 and not name:
        return found[0]
    listed = ", ".join(str(path.relative_to(folder)) for path in found[:6])
    listed = listed or f"no {' or '.join(suffixes)} file"
    wanted = f"no annotation file {name!r}" if name else "name the annotation file"
    raise UserError(f"{folder}: {wanted}; set config.data.annotations (there is {listed})")


def find_images(folder: Path, annotations: Path, name: str) -> Path:
    """Give the folder that file names are relative to: `name` if given, else images/, COCO's
    (instances_train2017.json: train2017/), or where the annotation file lies.
    """
    above = annotations.parent
    base = above if folder.is_file() else folder
    if name:
        tried = [base / name, above / name, above.parent / name]
    else:
        stem = annotations.stem.rpartition("_")[2]
        tried = [b / n for b in dict.fromkeys((base, above.parent)) for n in ("images", stem)]
    for candidate in tried:
        if candidate.is_dir():
            return candidate
    if name and not folder.is_file():
        raise UserError(f"{base / name}: no such folder; set config.data.images to the pictures'")
    return above if folder.is_file() else base
