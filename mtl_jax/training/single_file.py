"""A model as one file to share: NumPy's arrays by name and JSON, in a zip; no code is in it."""

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from mtl_jax.errors import UserError
from mtl_jax.io.atomic import write_whole
from mtl_jax.types import Variables

METADATA = "metadata.json"


def write_pack(path: Path, metadata: Mapping[str, Any], variables: Variables) -> str:
    """Write a model's file, whole or not at all, and give its SHA-256."""
    arrays: dict[str, Any] = flatten_dict(jax.device_get(variables), sep="/")
    said = np.frombuffer(json.dumps(dict(metadata)).encode(), np.uint8)
    with write_whole(path) as draft, open(draft, "wb") as file:
        np.savez(file, **{METADATA: said, **arrays})
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_pack(path: Path) -> tuple[dict[str, Any], Variables]:
    """Give the metadata and the variables of a model's file. Raises UserError where it is none."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
            metadata = json.loads(stored[METADATA].tobytes())
            arrays = {name: stored[name] for name in stored.files if name != METADATA}
    except (OSError, ValueError, KeyError, TypeError, MemoryError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: no packed model ({error})") from None
    return metadata, {"batch_stats": {}, **unflatten_dict(arrays, sep="/")}
