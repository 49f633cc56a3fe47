"""The cache folder that test runs share, for files that are slow to create."""

import hashlib
import os
import platform
from importlib.metadata import version
from pathlib import Path

LIMIT = 4 * 2**30  # bytes
_HOME = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mtl_jax" / "tests"


def folder(kind: str, *versions: str) -> Path:
    """Return the folder for files of `kind`.

    It depends on the versions of the packages named in `versions` and on the type of processor.
    """
    known = [f"{name} {version(name)}" for name in versions]
    digest = hashlib.sha256("\n".join([*known, *_processor()]).encode()).hexdigest()
    return _HOME / f"{kind}-{digest[:16]}"


def _processor() -> list[str]:
    """Return lines that identify the processor's type and features, for which XLA compiles."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return [platform.machine(), platform.processor()]
    first, _, _ = cpuinfo.read_text().partition("\n\n")
    named = ("model name", "flags", "Features", "CPU part")
    return [platform.machine(), *(x for x in first.splitlines() if x.startswith(named))]


def trim(limit: int = LIMIT, home: Path = _HOME) -> None:
    """Delete the least recently used files until at most `limit` bytes are left."""
    files = [path for path in home.rglob("*") if path.is_file()]
    used = sorted(((_last_use(path), path.stat().st_size, path) for path in files), reverse=True)
    total = 0
    for _, size, path in used:
        total += size
        if total > limit:
            path.unlink(missing_ok=True)


def _last_use(path: Path) -> float:
    stat = path.stat()
    return max(stat.st_atime, stat.st_mtime)
