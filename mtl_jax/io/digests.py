"""SHA-256 digests of stored files, with which later damage is found."""

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from mtl_jax.io.atomic import write_json

NAME = "digests.json"


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def source_digest() -> str:
    """Return the SHA-256 of this package's Python files, which changes with every edit."""
    digest, package = hashlib.sha256(), Path(__file__).parents[1]
    for path in sorted(package.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(package)} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def check_digest(path: Path, sha256: str) -> None:
    """Raise ValueError if the SHA-256 of a file does not begin with `sha256`."""
    found = file_digest(path)
    if not found.startswith(sha256.lower()):
        raise ValueError(f"expected the SHA-256 {sha256}, got {found[: max(8, len(sha256))]}")


def write_digests(folder: Path) -> None:
    """Write the digests of all files below a folder to its digests.json."""
    write_json(folder / NAME, {name: file_digest(path) for name, path in _files(folder).items()})


def find_damage(folder: Path, item: str) -> str:
    """Return a description of a damaged file in the subfolder `item`, or '' if there is none.

    Folders without digests are not checked, and files without a digest are ignored. Raises OSError
    if a file exists but cannot be read.
    """
    try:
        digests = dict(json.loads((folder / NAME).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return ""
    except (ValueError, TypeError):
        return f"{NAME} is not valid"
    files = _files(folder)  # a name in the file, which may be a stranger's, is never opened
    for name, digest in digests.items():
        if name.partition("/")[0] != item:
            continue
        if name not in files:
            return f"{name} is missing"
        if file_digest(files[name]) != digest:
            return f"{name} differs from its digest"
    return ""


def write_checked_json(path: Path, value: Any) -> None:
    """Write a JSON file that contains its own digest."""
    write_json(path, {"value": value, "digest": _digest_json(value)})


def read_checked_json(path: Path) -> Any:
    """Read a file of `write_checked_json`. Raises ValueError if it is damaged."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["digest"] == _digest_json(stored["value"]):
            return stored["value"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path}: not valid") from None
    raise ValueError(f"{path}: differs from its digest")


def _files(folder: Path) -> dict[str, Path]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path for path in paths}


def _digest_json(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
