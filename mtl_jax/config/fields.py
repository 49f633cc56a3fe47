"""Flat and plain forms of a config: fields by dotted name, and tuples in place of lists."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict


def config_from_json(text: str) -> ConfigDict:
    """Parse the output of `ConfigDict.to_json`; lists become tuples again."""
    return ConfigDict(as_tuples(json.loads(text)))


def flat_fields(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted name and the value of every field of a config."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from flat_fields(value, f"{prefix}{key}.")
        elif isinstance(value, tuple) and value and isinstance(value[0], Mapping):
            yield from flat_fields({f"{key}[{i}]": item for i, item in enumerate(value)}, prefix)
        else:
            yield f"{prefix}{key}", value


def as_tuples(value: Any) -> Any:
    """Convert lists to tuples, which JSON does not have, and ConfigDicts to dicts, recursively."""
    if isinstance(value, Mapping | ConfigDict):
        return {key: as_tuples(item) for key, item in value.items()}
    return tuple(map(as_tuples, value)) if isinstance(value, list | tuple) else value
