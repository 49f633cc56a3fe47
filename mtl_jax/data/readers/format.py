"""The declaration of an annotation format: how to open it, the keys of its block in a config, and
where to get its data.
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
    """Options for reading labels, and for handling faults."""

    attributes: Sequence[Attribute] = ()
    keys: Mapping[str, Any] = {}
    preset: str = ""
    on_error: str = "stop"


@dataclass(frozen=True)
class Format:
    """A layout of data on disk, or drawn data, which has no `folders`."""

    open: Callable[[Path, Block, Labels], Source]
    options: Mapping[str, Any] = field(default_factory=dict)  # keys of a block, with defaults
    folders: tuple[str, ...] = ()  # usual names of its folder below the data root
    origin: str = ""  # where to get the data, and its terms of use
    people: str = ""  # how its labels of people were made, if it has any
    # Describes the code that opening a block runs; "" if it runs none.
    code: Callable[[Block], str] = lambda block: ""
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # values of some options


def find_subfolder(folder: Path, name: str, usual: Sequence[str]) -> Path:
    """Return the folder `name` in `folder`; without a name, the first of `usual` that exists, or
    `folder` itself.
    """
    if name:
        return folder / name
    return next((folder / each for each in usual if (folder / each).is_dir()), folder)


def find_annotations(folder: Path, name: str, suffixes: Sequence[str] = (".json",)) -> Path:
    """Return the file `name`; without a name, the only file in the folder or its annotations/ that
    ends in one of `suffixes`.

    `folder` may be the file itself. Raises UserError if there is no such file, or several.
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
    fault = f"no annotation file {name!r}" if name else "expected one annotation file"
    raise UserError(f"{folder}: {fault}; set config.data.annotations (found {listed})")


def find_images(folder: Path, annotations: Path, name: str) -> Path:
    """Return the folder to which file names are relative.

    It is `name` if given, else images/, COCO's folder (train2017/ for instances_train2017.json), or
    `folder`. If `folder` is the annotation file, its parent is used instead.
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
        raise UserError(
            f"{base / name}: no such folder; set config.data.images to the folder of the images"
        )
    return above if folder.is_file() else base
