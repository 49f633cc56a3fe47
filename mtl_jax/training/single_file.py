"""One-file models: a `.npz` of named arrays and JSON metadata, which contains no code."""

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
    """Write a one-file model atomically, and return its SHA-256."""
    arrays: dict[str, Any] = flatten_dict(jax.device_get(variables), sep="/")
    encoded = np.frombuffer(json.dumps(dict(metadata)).encode(), np.uint8)
    with write_whole(path) as draft, open(draft, "wb") as file:
        np.savez(file, **{METADATA: encoded, **arrays})
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_pack(path: Path) -> tuple[dict[str, Any], Variables]:
    """Return the metadata and variables of a one-file model. Raises UserError if it is invalid."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
            metadata = json.loads(stored[METADATA].tobytes())
            arrays = {name: stored[name] for name in stored.files if name != METADATA}
    except (OSError, ValueError, KeyError, TypeError, MemoryError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: expected a file written by `convert pack` ({error})") from None
    return metadata, {"batch_stats": {}, **unflatten_dict(arrays, sep="/")}
