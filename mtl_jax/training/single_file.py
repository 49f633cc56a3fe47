"""One-file models: a `.npz` of named arrays and JSON metadata, which contains no code."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from mtl_jax.errors import UserError
from mtl_jax.io.atomic import write_whole
from mtl_jax.io.npy import read_archive
from mtl_jax.types import Variables

METADATA = "metadata.json"
# The commands that convert weight files of other libraries.
_OTHERS = {
    ".pth": "torchvision",
    ".pt": "torchvision",
    ".safetensors": "torchvision",
    ".h5": "matterport",
}


def write_pack(path: Path, metadata: Mapping[str, Any], variables: Variables) -> str:
    """Write a one-file model atomically, and return its SHA-256."""
    flat: dict[tuple[str, ...], Any] = flatten_dict(jax.device_get(variables))
    arrays = {"/".join(map(_escape, path)): array for path, array in flat.items()}
    encoded = np.frombuffer(json.dumps(dict(metadata)).encode(), np.uint8)
    with write_whole(path) as draft, open(draft, "wb") as file:
        np.savez(file, **{METADATA: encoded, **arrays})
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_pack(path: Path) -> tuple[dict[str, Any], Variables]:
    """Return the metadata and variables of a one-file model. Raises UserError if it is invalid."""
    try:
        return parse_pack(path)
    except ValueError as error:
        form = _OTHERS.get(path.suffix)
        remedy = (
            f"convert it first, `python -m mtl_jax.convert {form} {path} --workdir RUN`"
            if form
            else "if it was downloaded or converted automatically, remove it, and it is made again"
        )
        raise UserError(f"{path}: {error}; {remedy}") from None


def parse_pack(path: Path) -> tuple[dict[str, Any], Variables]:
    """Return the metadata and variables of a one-file model. Raises ValueError if it is invalid."""
    try:
        arrays = read_archive(path)
        metadata = json.loads(arrays.pop(METADATA).tobytes())
        if not isinstance(metadata, dict):
            raise ValueError("its metadata is not an object")
        flat = {tuple(map(_unescape, name.split("/"))): x for name, x in arrays.items()}
        variables = unflatten_dict(flat)
    except Exception as error:  # a broken archive can raise any exception
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"expected a file written by `convert pack` ({reason})") from None
    return metadata, {"batch_stats": {}, **variables}


def _escape(part: str) -> str:
    """Encode a name for a path with slashes: an attribute may be named km/h."""
    return part.replace("%", "%25").replace("/", "%2F")


def _unescape(part: str) -> str:
    return part.replace("%2F", "/").replace("%25", "%")
