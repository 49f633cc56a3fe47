"""Named blocks of a config: the data sources and the training stages.

A config file declares them as a dict of blocks by name, or as a tuple of blocks. The blocks of a
tuple are named after their formats, or stage1, stage2. Both forms are converted to a ConfigDict of
blocks by name with a field `order`, the names in their order. A ConfigDict sorts its fields;
stages by name therefore require an `order` in the config file, and sources without one are ordered
by name.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ml_collections import ConfigDict

from mtl_jax.config.fields import as_tuples
from mtl_jax.config.options.data import unique_names
from mtl_jax.config.options.training import Stage
from mtl_jax.config.renamed import read_old_names
from mtl_jax.errors import UserError

ORDER = "order"


def name_blocks(config: ConfigDict) -> None:
    """Convert `config.data.sources` and `config.stages` to blocks by name, and renamed fields to
    their new names, in place.

    Raises UserError if they are not blocks, or if two blocks have the same name.
    """
    with config.unlocked(), config.ignore_type():
        read_old_names(config)
        config.data.sources = ConfigDict(_named_sources(config.data))
        config.stages = ConfigDict(_named_stages(config.stages))
    config.lock()
    config.attributes.unlock()
    config.data.attribute_keys.unlock()


def with_names(config: Mapping[str, Any] | ConfigDict) -> ConfigDict:
    """Return a copy of a config whose sources and stages are blocks by name."""
    copy = ConfigDict(as_tuples(config))
    name_blocks(copy)
    return copy


def blocks_of(named: Mapping[str, Any] | ConfigDict) -> dict[str, dict[str, Any]]:
    """Return the blocks by name, in their order."""
    plain = as_tuples(named)
    names = plain.get(ORDER, tuple(name for name in plain if name != ORDER))
    return {name: plain[name] for name in names}


def field_of(blocks: ConfigDict, number: int) -> str | None:
    """Return the name of the block at a position, or None if there is no such block."""
    names = blocks.get(ORDER, ())
    return names[number] if number < len(names) else None


def _named_sources(data: ConfigDict) -> dict[str, Any]:
    found = _as_blocks(data.sources, "config.data.sources")
    if isinstance(data.sources, tuple | list):
        pairs = []
        for i, block in enumerate(found.values()):
            usual = block.get("format") or (data.format if i == 0 else "") or "source"
            pairs.append((block.get("name", ""), usual))
        found = dict(zip(unique_names(pairs), found.values(), strict=True))
    return _with_order(found, "config.data.sources")


def _named_stages(stages: Any) -> dict[str, Any]:
    if stages is None:
        stages = ({},)
    found = _as_blocks(stages, "config.stages")
    if len(found) > 1 and ORDER not in found and not isinstance(stages, tuple | list):
        raise UserError(
            f"config.stages has no {ORDER}; add the names of the stages in training order, such as "
            f"{ORDER}={tuple(found)}"
        )
    if isinstance(stages, tuple | list):
        found = {f"stage{i}": block for i, block in enumerate(found.values(), 1)}
    # Every option is filled in, so that each can be set from the command line.
    complete = {n: b if n == ORDER else {**asdict(Stage()), **b} for n, b in found.items()}
    return _with_order(complete, "config.stages")


def _as_blocks(value: Any, field: str) -> dict[str, Any]:
    """Return blocks by name; the names of a tuple's blocks are their positions."""
    if value is None:
        return {}
    if not isinstance(value, Mapping | ConfigDict | tuple | list):
        raise UserError(f"{field} is {value!r}; it must be a dict or a tuple of blocks")
    by_name = isinstance(value, Mapping | ConfigDict)
    plain = as_tuples(value)
    pairs = plain.items() if by_name else ((str(i), block) for i, block in enumerate(plain))
    found = dict(pairs)
    for name, block in found.items():
        if not isinstance(block, Mapping) and name != ORDER:
            place = f"{field}.{name}" if by_name else f"{field}[{name}]"
            raise UserError(f"{place} is {block!r}; it must be a block, a dict of fields")
    return found


def _with_order(found: dict[str, Any], field: str) -> dict[str, Any]:
    named = {name: block for name, block in found.items() if name != ORDER}
    order = tuple(found.get(ORDER, named))
    if unknown := [name for name in order if name not in named]:
        known = ", ".join(named) or "none"
        raise UserError(
            f"{field}.{ORDER} contains {unknown[0]!r}, which is not a block; the blocks are {known}"
        )
    if len(set(order)) < len(order):
        raise UserError(f"{field}.{ORDER} is {order}; each block must be in it at most once")
    # Names of fields consist of word characters; splits.json uses the block's original name.
    keys = {name: re.sub(r"\W", "_", name) for name in named}
    if len(set(keys.values())) < len(keys):
        raise UserError(
            f"{field}: the names {', '.join(map(repr, named))} must differ in letters or digits"
        )
    blocks = {keys[n]: b if keys[n] == n else {"name": n, **b} for n, b in named.items()}
    return {ORDER: tuple(keys[name] for name in order), **blocks}
