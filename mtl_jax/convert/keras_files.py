"""Read Keras's weight files (HDF5). No code from a file is ever run, and no other file is read."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mtl_jax.errors import UserError

MAX_BYTES = 4 * 2**30  # of all tensors; a compressed or sparse file of a few bytes can claim more


def read_keras(path: str | Path) -> dict[str, np.ndarray]:
    """Read every tensor of a Keras 2 weight file, as float32 by "layer/variable".

    The layer is the group on top, or of `rpn_model`, which is a model in the model, the layer in
    it. Of a file of a whole model the weights are read. Raises UserError where the file is no such
    file, is cut off, or would have data read from elsewhere.
    """
    path = Path(path)
    try:
        import h5py  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError(f"{path}: reading it wants h5py; install mtl_jax[convert]") from None
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    try:
        with h5py.File(path, "r") as file:
            # A whole model saved, optimizer and all, has its weights in a group of their own.
            # Of the names alone: asking the file itself would follow a link.
            whole = "model_weights" in list(file)
            top = _follow(file, "model_weights", path) if whole else file
            if not isinstance(top, h5py.Group):
                raise UserError(f"{path}: model_weights: is no group of layers")
            tensors, left = {}, MAX_BYTES
            for name, dataset in _datasets(top, path):
                left -= dataset.nbytes
                if left < 0:
                    raise UserError(f"{path}: claims more than {MAX_BYTES >> 30} GiB of numbers")
                key = _key(name, path)
                if key in tensors:
                    raise UserError(f"{path}: {name}: there are two of {key}")
                tensors[key] = dataset[()].astype(np.float32)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: no whole HDF5 file of weights ({reason})") from None
    if not tensors:
        raise UserError(f"{path}: holds no tensors")
    return tensors


def _follow(group: Any, name: str, path: Path) -> Any:
    """Open a member of a group, its link looked at first: following one can open another file."""
    import h5py  # pyright: ignore[reportMissingImports]

    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise UserError(f"{path}: {name}: is a link to elsewhere, and weights have none")
    return group[name]


def _datasets(top: Any, path: Path) -> Iterator[tuple[str, Any]]:
    """Give every dataset by its name below `top`, all in the file itself."""
    import h5py  # pyright: ignore[reportMissingImports]

    seen = {top}
    waiting = [("", top)]
    while waiting:
        at, group = waiting.pop()
        for part in group:
            name = f"{at}{part}"
            found = _follow(group, part, path)
            # Hard links can go round in circles.
            if found in seen:
                raise UserError(f"{path}: {name}: stands in the file twice")
            seen.add(found)
            if isinstance(found, h5py.Group):
                waiting.append((f"{name}/", found))
                continue
            numbers = isinstance(found, h5py.Dataset) and found.dtype.kind == "f"
            if not numbers or found.shape is None:
                raise UserError(f"{path}: {name}: holds no floating point numbers")
            if found.is_virtual or found.external:
                raise UserError(f"{path}: {name}: its numbers are in another file")
            yield name, found


def _key(name: str, path: Path) -> str:
    """Give "conv1/kernel" of "conv1/conv1_1/kernel:0"; Keras numbers the scopes of a second model
    in one session.
    """
    parts = name.split("/")
    if len(parts) < 2:
        raise UserError(f"{path}: {name}: is in no layer")
    layer = re.sub(r"_\d+$", "", parts[-2]) if parts[0] == "rpn_model" else parts[0]
    return f"{layer}/{parts[-1].partition(':')[0]}"
