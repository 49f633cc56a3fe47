"""Restrictions on the data of a run that somebody else trained.

The config in a checkpoint names data. If it is not the user's own, it could name a Python file,
which opening the data would run, or private images of this computer, which a report would contain.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mtl_jax.data.datasets.blocks import DATA_ROOT
from mtl_jax.data.readers.format import Format
from mtl_jax.data.records import Source
from mtl_jax.errors import UserError

# Keys of a block that are paths: of its data, and of files below them.
_DATA, _BELOW = ("path", "data_dir"), ("annotations", "images", "image_set")
_STRANGE = "and this run is not one that you trained here"


def check_block(
    block: Mapping[str, Any], kind: Format, folder: Path, named: frozenset[str]
) -> None:
    """Raise UserError if opening a block would run code, or read files outside the data root and
    the current folder, also by a link.

    `folder` is that of the block's data. Paths in `named` are the user's own, and not restricted.
    """
    where = f"config.data: source {block['name']}"
    given = {key for key in (*_DATA, *_BELOW) if block.get(key) and block[key] not in named}
    if (code := kind.code(block)) and given.intersection(_DATA):
        raise UserError(
            f"{where} runs {code}, {_STRANGE}; if you trust its author, pass --trust (trust=True)"
        )
    if not kind.folders:
        return
    base = folder if folder.is_dir() else folder.parent
    own = bool(block["path"]) and block["path"] in named
    if not own:
        _check_place(f"{where}: path", folder)
    for key in given.intersection(_BELOW):
        _check_place(f"{where}: {key}", base / block[key], base if own else None)
    if not own:
        check_links(folder)


def check_images(block: Mapping[str, Any], source: Source, named: frozenset[str]) -> None:
    """Raise UserError if the images of an opened source are outside these folders, also by a link.

    The arguments are those of `check_block`.
    """
    own = any(block.get(key) and block[key] in named for key in ("path", "images"))
    if source.image_folder is not None and not own:
        _check_place(f"config.data: source {block['name']}: images", source.image_folder)
        check_links(source.image_folder)


def check_path(field: str, path: str, named: frozenset[str] | None) -> None:
    """Raise UserError if the path of another field is outside these folders. `named` is that of
    `check_block`, or None for the user's own config.
    """
    if named is not None and path not in named:
        _check_place(field, Path(path))


def check_run_folder(workdir: Path, named: frozenset[str] | None) -> None:
    """Raise UserError if a link below the run folder leads out of it: results would be written
    there. `named` is None for the user's own run.
    """
    if named is not None:
        check_links(workdir)


def check_links(folder: Path) -> None:
    """Raise UserError if a link below a folder leads out of it."""
    real = _real(folder)
    for link in _links(folder):
        if not _real(link).is_relative_to(real):
            raise UserError(
                f"{link}: leads out of {folder}, {_STRANGE}; copy the files without links, or pass "
                "--trust (trust=True)"
            )


def _links(folder: Path) -> Iterator[Path]:
    for parent, directories, files in os.walk(folder):
        for name in (*directories, *files):
            path = os.path.join(parent, name)
            if os.path.islink(path):
                yield Path(path)


def _check_place(field: str, place: Path, data: Path | None = None) -> None:
    """Raise UserError unless `place` is below the current folder, the data root or `data`."""
    root = os.environ.get(DATA_ROOT)
    own = [Path(each) for each in (root, data) if each]
    inside = any(_real(place).is_relative_to(_real(each)) for each in (Path(), *own))
    # The user's own folders may contain links.
    below = any(place.absolute().is_relative_to(each.absolute()) for each in own)
    if not inside and (".." in place.parts or not below):
        allowed = f"{DATA_ROOT}, the current folder and --data"
        raise UserError(
            f"{field} {place} is outside {allowed}, {_STRANGE}; set the field yourself, or pass "
            "--trust (trust=True)"
        )


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # unlike Path.resolve, without an error for a loop
