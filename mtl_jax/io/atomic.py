"""Files that are there whole or not at all."""

import errno
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

# What a write may say without a file's name: the disk is full, or broken.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


def draft_of(path: Path) -> Path:
    """Give where `path` is written at first: beside it, hidden, with its suffix. Hosts that share
    the folder may share process numbers.
    """
    return path.with_name(f".{socket.gethostname()}.{os.getpid()}.{path.name}")


@contextmanager
def write_whole(path: str | Path) -> Iterator[Path]:
    """Give the path of a draft beside `path`, which takes its place when the block ends well.

    Folders on the way are made; after an exception nothing is left of the draft.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = draft_of(path)
    try:
        yield draft
        os.replace(draft, path)
    except OSError as error:
        if error.filename == str(draft) or (error.errno in DISK_ERRORS and not error.filename):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def write_json(path: str | Path, value: Any, readable: bool = True) -> None:
    """Write a JSON file; `readable` with sorted keys, one a line."""
    layout: dict[str, Any] = {"indent": 2, "sort_keys": True} if readable else {}
    with write_whole(path) as draft:
        draft.write_text(json.dumps(value, ensure_ascii=False, **layout) + "\n", encoding="utf-8")
