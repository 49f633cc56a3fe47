"""Stages of training, and the parameters that each one trains."""

import difflib
from collections.abc import Sequence
from typing import Any

import jax
from flax.traverse_util import flatten_dict, unflatten_dict

from mtl_jax.errors import UserError, compile_pattern

FIRST_STAGE = {"3+": 3, "4+": 4, "5+": 5}


def path_of(keys: Sequence[Any]) -> str:
    """Join the dictionary keys of a jax key path with '/'."""
    return "/".join(str(key.key) for key in keys)


def in_backbone(path: str) -> bool:
    """Return whether a parameter belongs to the backbone: a part of its path is `backbone`."""
    return "backbone" in path.split("/")


def trainable(params: Any, layers: str) -> Any:
    """Return a tree of bools like `params`: True for parameters that a stage with `layers` trains.

    `all` is all parameters; `heads` is all except the backbone; `5+`, `4+`, `3+` are the heads and
    the backbone's stages from that one on. Any other text is a regular expression that is searched
    for in the '/'-joined parameter paths. Raises UserError if no parameter would be trained.
    Source: `train(layers=...)` of matterport's Mask_RCNN.
    """
    paths = [path_of(keys) for keys, _ in jax.tree_util.tree_leaves_with_path(params)]
    if layers in FIRST_STAGE:
        kept = {f"stage{i}" for i in range(FIRST_STAGE[layers], 6)}
        chosen = [not in_backbone(p) or not kept.isdisjoint(p.split("/")) for p in paths]
        if not any(in_backbone(path) for path, on in zip(paths, chosen, strict=True) if on):
            raise UserError(_no_match(layers, f"backbone/stage{FIRST_STAGE[layers]}", paths))
    elif layers == "heads":
        chosen = [not in_backbone(path) for path in paths]
    elif layers == "all":
        chosen = [True] * len(paths)
    else:
        pattern = compile_pattern(layers, "layers")
        chosen = [pattern.search(path) is not None for path in paths]
    if not any(chosen):
        raise UserError(_no_match(layers, layers, paths))
    return jax.tree.unflatten(jax.tree.structure(params), chosen)


def _no_match(layers: str, near: str, paths: Sequence[str]) -> str:
    """Return the error message that `layers` matches no parameter, with the closest paths."""
    modules = {path.rsplit("/", depth)[0] for path in paths for depth in range(path.count("/") + 1)}
    close = difflib.get_close_matches(near, sorted(modules | set(paths)), n=3, cutoff=0.0)
    return f"layers {layers!r} match no parameter; the closest are {', '.join(close)}"


def frozen_norms(batch_stats: Any, mask: Any) -> dict[str, Any]:
    """Return the norms whose parameters a stage freezes, as the variable collection `frozen`.

    They use their running statistics, as in evaluation, and do not update them; see
    `layers/norm.py`.
    """
    is_on = flatten_dict(mask)
    norms = {key[:-1] for key in flatten_dict(batch_stats)}
    trained = {key[:-1] for key in is_on if is_on[key]}
    own = {key[:-1] for key in is_on}
    return unflatten_dict(dict.fromkeys((norms & own) - trained, True))


def partition(params: Any, mask: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split nested dicts into the leaves where `mask` is True and the rest; `merge` undoes it."""
    chosen = {key for key, is_on in flatten_dict(mask).items() if is_on}
    flat = flatten_dict(params, keep_empty_nodes=True)
    on = {key: leaf for key, leaf in flat.items() if key in chosen}
    off = {key: leaf for key, leaf in flat.items() if key not in chosen}
    return unflatten_dict(on), unflatten_dict(off)


def merge(on: dict[str, Any], off: dict[str, Any]) -> dict[str, Any]:
    """Undo `partition`."""
    return unflatten_dict(flatten_dict(on) | flatten_dict(off, keep_empty_nodes=True))
