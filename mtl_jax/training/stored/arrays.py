"""Read the arrays that Orbax wrote, without Orbax, which takes a second of processor time for the
weights of a Mask R-CNN.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore
from flax.traverse_util import unflatten_dict

from mtl_jax.io.silence import silenced

UNCOMPRESSED = 2**28  # bytes of arrays that any number of stored bytes may declare
_KEY_OF_DICT = 2  # Orbax's number of this type of key


class _TooLargeError(ValueError):
    """Arrays that declare many more bytes than are stored."""


def read_arrays(folder: Path) -> Any:
    """Return the nested dicts of NumPy arrays in the folder of an item of a checkpoint.

    Whatever differs from what Orbax writes today is read by Orbax, which raises the errors. Raises
    ValueError if the arrays are much larger than their files.
    """
    try:
        return _read(folder)
    except _TooLargeError:
        raise
    except Exception:  # any layout of another version
        return _read_by_orbax(folder)


def _read(folder: Path) -> dict[str, Any]:
    """Read the arrays from the database in which Orbax stores them in Zarr's format."""
    described = json.loads((folder / "_METADATA").read_text(encoding="utf-8"))
    if not described["use_ocdbt"] or described["use_zarr3"]:
        raise ValueError(f"{folder}: another format")
    is_complete = bool(described.get("store_array_data_equal_to_fill_value"))
    context = tensorstore.Context()
    values: dict[tuple[str, ...], Any] = {}
    opened = {}
    for entry in described["tree_metadata"].values():
        path = tuple(part["key"] for part in entry["key_metadata"])
        if any(part["key_type"] != _KEY_OF_DICT for part in entry["key_metadata"]):
            raise ValueError(f"{path}: not a key of a dict")
        kind = entry["value_metadata"]["value_type"]
        if kind == "Dict":
            values[path] = {}
        elif kind in ("jax.Array", "np.ndarray"):
            opened[path] = tensorstore.open(
                {
                    "driver": "zarr",
                    "kvstore": {
                        "driver": "ocdbt",
                        "base": f"file://{folder.absolute()}/",
                        "path": f"{'.'.join(path)}/",
                    },
                    "fill_missing_data_reads": not is_complete,
                },
                context=context,
                open=True,
                read=True,
            )
        else:
            raise ValueError(f"{path}: {kind}")
    arrays = {path: array.result() for path, array in opened.items()}
    _check_size(
        folder, sum(array.size * array.dtype.numpy_dtype.itemsize for array in arrays.values())
    )
    reading = {path: array.read() for path, array in arrays.items()}
    values |= {path: np.asarray(array.result()) for path, array in reading.items()}
    return unflatten_dict(values)


def _read_by_orbax(folder: Path) -> Any:
    import jax
    import orbax.checkpoint as ocp

    handler = ocp.StandardCheckpointHandler()
    with silenced("absl"), ocp.Checkpointer(handler) as checkpointer:
        described: Any = handler.metadata(folder)  # pyright: ignore
        target = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), described.tree)
        _check_size(folder, sum(leaf.nbytes for leaf in jax.tree.leaves(target)))
        return checkpointer.restore(folder, args=ocp.args.StandardRestore(target))


def _check_size(folder: Path, declared: int) -> None:
    if declared > UNCOMPRESSED + 64 * sum(file.stat().st_size for file in folder.rglob("*")):
        raise _TooLargeError(f"its files declare {declared:,} bytes of arrays")
