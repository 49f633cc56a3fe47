"""Atomic writing of files."""

import errno
import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mtl_jax.errors import UserError

LONGEST_NAME = 255  # bytes, of Linux's file systems
# Errors of a full or broken disk, which may not name the file.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


def fit_name(path: Path) -> Path:
    """Return `path`; if its name is too long for a file, cut it, and append its digest and suffix.

    Names made from the name of another file, which may have the longest name, can be too long.
    """
    name = os.fsencode(path.name)
    if len(name) <= LONGEST_NAME:
        return path
    suffix = path.suffix if path.suffix.isascii() and len(path.suffix) < 16 else ""
    end = f"~{hashlib.sha256(name).hexdigest()[:16]}{suffix}"
    return path.with_name(name[: LONGEST_NAME - len(end)].decode("utf-8", "ignore") + end)


def draft_of(path: Path) -> Path:
    """Return the path where `path` is first written: in its folder, hidden, with its suffix.

    The name contains the host, because hosts that share the folder may use equal process numbers.
    """
    return fit_name(path.with_name(f".{socket.gethostname()}.{os.getpid()}.{path.name}"))


@contextmanager
def write_whole(path: str | Path) -> Iterator[Path]:
    """Yield the path of a draft, and rename the draft to `path` if the block succeeds.

    Missing folders are created. After an exception the draft is removed and `path` is unchanged.
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
    """Write a JSON file atomically; if `readable`, indented and with sorted keys."""
    layout: dict[str, Any] = {"indent": 2, "sort_keys": True} if readable else {}
    with write_whole(path) as draft:
        draft.write_text(json.dumps(value, ensure_ascii=False, **layout) + "\n", encoding="utf-8")


@contextmanager
def require_room(folder: Path, needed: int, what: str, remedy: str) -> Iterator[None]:
    """Check that the disk of `folder` has `needed` bytes free for `what`, which the block writes.

    Raises UserError if it has fewer, or if the block raises an exception because the disk is full.
    """

    def error() -> UserError:
        free = shutil.disk_usage(folder).free
        return UserError(
            f"{folder}: {what} requires {needed / 1e6:.1f} MB, but the disk has {free / 1e6:.1f} "
            f"MB free; free space and {remedy}"
        )

    disk = shutil.disk_usage(folder)
    if disk.free < needed and disk.total:  # 0 if the file system does not report it
        raise error()
    try:
        yield
    except Exception as cause:
        # Libraries in C++ raise other exceptions than OSError.
        if any(os.strerror(code) in str(cause) for code in DISK_ERRORS):
            raise error() from None
        raise
