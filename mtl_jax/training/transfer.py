"""Transfer of variables from another model."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from mtl_jax.errors import UserError, compile_pattern
from mtl_jax.types import Array, Variables

# Layers whose shape depends on the number of classes or on an attribute.
OUTPUT_LAYERS = (
    r"/class_logits/",
    r"/box_deltas/",
    r"/mask_logits",
    r"_output/",
    r"/dense_head_[^/]+/deconv/",
)


class TransferRow(NamedTuple):
    """The outcome for one tensor."""

    path: str
    size: int
    outcome: str  # copied | fresh: why | unused: why


def transfer(
    variables: Variables,
    loaded: Variables,
    exclude: Sequence[str] = (),
) -> tuple[Variables, list[TransferRow]]:
    """Copy the tensors with the same path and shape from `loaded`; return the variables and the
    outcome for each tensor.

    Not copied are paths that match an `exclude` pattern, paths missing in `loaded`, and output
    layers with a different shape. A norm may be frozen in one model and trained in the other.
    Raises UserError for any other difference of shape (all are listed), for an `exclude` pattern
    without a match, and if no tensor is copied. Exclude output layers with the same shape but a
    different meaning, which cannot be detected.
    """
    flat: dict[tuple[str, ...], Array] = dict(flatten_dict(variables))
    keys = {"/".join(key): key for key in flat}  # an attribute may be named km/h
    ours = {path: flat[key] for path, key in keys.items()}
    theirs = _in_our_collections(
        {"/".join(key): tensor for key, tensor in flatten_dict(loaded).items()}, ours
    )
    excluded = [compile_pattern(pattern, "exclude") for pattern in exclude]
    for pattern in excluded:
        if not any(pattern.search(path) for path in ours):
            raise UserError(f"exclude {pattern.pattern!r} matches no parameter path of the model")
    result, rows, faults = {}, [], []
    for path, tensor in ours.items():
        result[path] = tensor
        there = np.shape(theirs[path]) if path in theirs else ()
        if any(pattern.search(path) for pattern in excluded):
            outcome = "fresh: excluded"
        elif path not in theirs:
            outcome = "fresh: not in the checkpoint"
        elif there == tensor.shape:
            outcome = "copied"
            result[path] = np.asarray(theirs[path]).astype(tensor.dtype)
        else:
            outcome = f"fresh: {there} in the checkpoint, {tensor.shape} in the model"
            if not any(re.search(pattern, path) for pattern in OUTPUT_LAYERS):
                faults.append(f"{path}: {there} in the checkpoint, {tensor.shape} in the model")
        rows.append(TransferRow(path, int(np.prod(tensor.shape)), outcome))
    for path in theirs.keys() - ours.keys():
        rows.append(TransferRow(path, int(np.size(theirs[path])), "unused: not in the model"))
    if faults:
        raise UserError("the checkpoint is from a different model:\n" + "\n".join(faults))
    if not any(row.outcome == "copied" for row in rows):
        raise UserError(
            "the checkpoint is from a different model: no tensor has the same path and shape"
        )
    copied = unflatten_dict({keys[path]: tensor for path, tensor in result.items()})
    return {**variables, **copied}, sorted(rows)


def _in_our_collections(theirs: dict[str, Array], ours: Mapping[str, Array]) -> dict[str, Array]:
    """Move the scale and bias of each norm in `theirs` to the collection that `ours` has them in.

    In a frozen norm they are statistics, in other norms parameters.
    """
    other = {"params": "batch_stats", "batch_stats": "params"}

    def place(path: str) -> str:
        collection, _, rest = path.partition("/")
        there = f"{other.get(collection, collection)}/{rest}"
        return there if path not in ours and there in ours and there not in theirs else path

    return {place(path): tensor for path, tensor in theirs.items()}


def format_table(rows: Sequence[TransferRow]) -> str:
    """Format a table with a line for each copied module and each layer that was not copied."""
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row in rows:
        parts = row.path.split("/")
        module = "/".join(parts[:2] if row.outcome == "copied" else parts[:-1])
        groups[module, row.outcome].append(row.size)
    lines = [("module", "tensors", "numbers", "outcome")]
    for (module, outcome), sizes in groups.items():
        lines.append((module, str(len(sizes)), f"{sum(sizes):,}", outcome))
    width = [max(len(line[i]) for line in lines) for i in range(3)]
    return "\n".join(
        f"{a:<{width[0]}}  {b:>{width[1]}}  {c:>{width[2]}}  {d}" for a, b, c, d in lines
    )
