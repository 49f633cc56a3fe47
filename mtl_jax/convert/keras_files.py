"""Read Keras's weight files (HDF5). No code from a file is ever run, and no other file is read."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mtl_jax.errors import UserError

# Limits on all tensors; a compressed or sparse file of a few bytes can declare any number. Trained
# weights are compressed to a half at best, but whole tensors can be zero.
MAX_BYTES, MAX_RATIO = 4 * 2**30, 8


def read_keras(path: str | Path) -> dict[str, np.ndarray]:
    """Read every tensor of a Keras 2 weight file, as float32 by "layer/variable".

    The layer is the top-level group; in `rpn_model`, a nested model, it is the group inside. Of a
    file that contains a whole model, only the weights are read. Raises UserError if the file is
    missing, invalid or truncated, or if it refers to data elsewhere.
    """
    path = Path(path)
    require_h5py(path)
    import h5py  # pyright: ignore[reportMissingImports]

    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        with h5py.File(path, "r") as file:
            # A file of a whole model, optimizer included, has the weights in a group of their own.
            # Only names are listed: `in file` would follow a link.
            whole = "model_weights" in list(file)
            top = _follow(file, "model_weights", path) if whole else file
            if not isinstance(top, h5py.Group):
                raise UserError(f"{path}: model_weights: must be a group of layers")
            most = min(MAX_BYTES, MAX_RATIO * path.stat().st_size)
            tensors, left = {}, most
            for name, dataset in _datasets(top, path):
                left -= dataset.nbytes
                if left < 0:
                    raise UserError(
                        f"{path}: {name}: declares more than {most:,} bytes of tensors, too many "
                        f"for a file of {path.stat().st_size:,} bytes"
                    )
                key = _key(name, path)
                if key in tensors:
                    raise UserError(f"{path}: {name}: duplicate of the tensor {key}")
                tensors[key] = dataset[()].astype(np.float32)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: not a complete HDF5 file of weights ({reason})") from None
    if not tensors:
        raise UserError(f"{path}: contains no tensors")
    return tensors


def require_h5py(what: object) -> None:
    """Raise UserError that names the file `what` if h5py, which reads it, is not installed."""
    try:
        import h5py  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError(
            f"{what}: reading it requires h5py; run `pip install h5py`, or install mtl_jax[convert]"
        ) from None


def _follow(group: Any, name: str, path: Path) -> Any:
    """Open a member of a group. Raises UserError for a link, which could open another file."""
    import h5py  # pyright: ignore[reportMissingImports]

    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise UserError(f"{path}: {name}: links are not allowed in a weight file")
    return group[name]


def _datasets(top: Any, path: Path) -> Iterator[tuple[str, Any]]:
    """Yield every dataset with its name below `top`. Raises UserError for data outside the file."""
    import h5py  # pyright: ignore[reportMissingImports]

    seen = {top}
    waiting = [("", top)]
    while waiting:
        at, group = waiting.pop()
        for part in group:
            name = f"{at}{part}"
            found = _follow(group, part, path)
            # Hard links can form cycles.
            if found in seen:
                raise UserError(f"{path}: {name}: appears twice in the file")
            seen.add(found)
            if isinstance(found, h5py.Group):
                waiting.append((f"{name}/", found))
                continue
            numbers = isinstance(found, h5py.Dataset) and found.dtype.kind == "f"
            if not numbers or found.shape is None:
                raise UserError(f"{path}: {name}: must contain floating-point numbers")
            if found.is_virtual or found.external:
                raise UserError(f"{path}: {name}: must not be stored in another file")
            yield name, found


def _key(name: str, path: Path) -> str:
    """Return "conv1/kernel" for "conv1/conv1_1/kernel:0".

    Keras numbers the scopes of a second model in the same session.
    """
    parts = name.split("/")
    if len(parts) < 2:
        raise UserError(f"{path}: {name}: must be in the group of a layer")
    layer = re.sub(r"_\d+$", "", parts[-2]) if parts[0] == "rpn_model" else parts[0]
    return f"{layer}/{parts[-1].partition(':')[0]}"
