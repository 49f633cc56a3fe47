"""Files that are there whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def partial_path(path: Path) -> Path:
    """Give where `path` is written to at first: beside it, hidden, with its suffix."""
    return path.with_name(f".{os.getpid()}.{path.name}")


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Give a path to write to, in a folder that is made where it is missing. At the end it becomes
    `path`; after an error nothing of it is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_path(path)
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
