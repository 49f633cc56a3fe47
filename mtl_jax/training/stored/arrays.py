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

_KEY_OF_DICT = 2  # Orbax's number of this type of key


def read_arrays(folder: Path) -> Any:
    """Return the nested dicts of NumPy arrays in the folder of an item of a checkpoint.

    Whatever differs from what Orbax writes today is read by Orbax, which raises the errors.
    """
    try:
        return _read(folder)
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
    reading = {path: array.result().read() for path, array in opened.items()}
    values |= {path: np.asarray(array.result()) for path, array in reading.items()}
    return unflatten_dict(values)


def _read_by_orbax(folder: Path) -> Any:
    import jax
    import orbax.checkpoint as ocp

    handler = ocp.StandardCheckpointHandler()
    with silenced("absl"), ocp.Checkpointer(handler) as checkpointer:
        described: Any = handler.metadata(folder)  # pyright: ignore
        target = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), described.tree)
        return checkpointer.restore(folder, args=ocp.args.StandardRestore(target))
