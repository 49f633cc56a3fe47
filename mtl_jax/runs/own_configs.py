"""The configs that the user trained, noted in the user's own folder.

The data of a run is opened without restrictions if its config is noted.
"""

import errno
import hashlib
import json
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mtl_jax.config.options.data import SourceOptions
from mtl_jax.config.resolve import Experiment, from_stored
from mtl_jax.data.datasets.blocks import complete, find_folder, merge_short
from mtl_jax.data.readers.formats import FORMATS
from mtl_jax.errors import UserError
from mtl_jax.io.atomic import write_json
from mtl_jax.io.user_folders import state_folder

_log = logging.getLogger(__name__)


def note_config(experiment: Experiment) -> None:
    """Note that the user trains a config, the folders of its data, and the content of the Python
    files that it names.

    Logs a warning if the user's folder cannot be written.
    """
    try:
        path = _note_of(experiment.config)
        write_json(path, _read(path) | _files(experiment.sources))
    except OSError as error:
        _log.warning(
            "%s: this run cannot be noted as yours (%s); if its data is in a Python file, or "
            "outside the current folder and MTL_JAX_DATA, evaluate.py requires --trust",
            error.filename,
            error.strerror,
        )


def is_noted(stored: Mapping[str, Any]) -> bool:
    """Return whether the user trained the config of a checkpoint, with its data in the same place,
    and its Python files in the same place or with the same content.

    Anyone can train a public config. Relative paths in it are those of another user's data if they
    are opened in that user's folder.
    """
    try:
        path = _note_of(stored)
        if not path.is_file():
            return False
        noted, now = _read(path), _files(from_stored(stored).sources)
    except (OSError, UserError):  # opening the data reports a block that is not supported
        return False
    has_folders = "" in noted.values()  # not in a note of an earlier version
    return all(
        file in noted or (digest in noted.values() if digest else not has_folders)
        for file, digest in now.items()
    )


def _note_of(config: Mapping[str, Any]) -> Path:
    """Return the file that notes a config. Raises FileNotFoundError if the user has no home."""
    plain = json.loads(json.dumps(config))  # with lists and text keys, as a checkpoint contains it
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
    state = state_folder()
    if state is None:
        raise FileNotFoundError(errno.ENOENT, "no home folder", "~/.local/state")
    return state / "trained" / f"{digest}.json"


def _read(path: Path) -> dict[str, str]:
    """Return the paths of a note: Python files with the digests of their contents, and the folders
    or files of data, with "".
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _files(sources: SourceOptions) -> dict[str, str]:
    """Return the existing Python files and data that the blocks of a config name, as `_read`."""
    blocks = map(complete, merge_short(sources)) if sources.sources or sources.format else ()
    found: dict[str, str] = {}
    for block in blocks:
        if block["format"] == "python":
            file = Path(block["path"])
            if file.is_file():
                found[os.path.realpath(file)] = hashlib.sha256(file.read_bytes()).hexdigest()
        elif FORMATS[block["format"]].folders:
            with suppress(UserError):  # opening the data reports that it is missing
                found[os.path.realpath(find_folder(block, FORMATS[block["format"]]))] = ""
    return found
