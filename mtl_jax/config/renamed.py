"""Fields of a config that were renamed. The old names are still read."""

import sys

from ml_collections import ConfigDict

RENAMED = {"data.regions.per_picture": "data.regions.per_image", "eval.pictures": "eval.images"}
_FLAG = "--config."


def add_old_names(config: ConfigDict) -> None:
    """Add the old names as empty fields, in place, so that a config file can set them."""
    for old in RENAMED:
        group, _, name = old.rpartition(".")
        if (fields := _group(config, group)) is not None:
            fields[name] = None


def read_old_names(config: ConfigDict) -> None:
    """Move values of renamed fields to the new names, in place, and print one line for each."""
    for old, new in RENAMED.items():
        group, _, name = old.rpartition(".")
        fields = _group(config, group)
        if fields is None or name not in fields:
            continue
        value = fields[name]
        delattr(fields, name)
        if value is not None:
            fields[new.rpartition(".")[2]] = value
            _report(old, new)


def with_new_name(argument: str) -> str:
    """Return a `--config.field=value` argument with the new name of its field."""
    field, equals, value = argument.partition("=")
    old = field.removeprefix(_FLAG)
    if old not in RENAMED:
        return argument
    _report(old, RENAMED[old])
    return f"{_FLAG}{RENAMED[old]}{equals}{value}"


def _group(config: ConfigDict, path: str) -> ConfigDict | None:
    for name in path.split("."):
        if name not in config:
            return None
        config = config[name]
    return config


def _report(old: str, new: str) -> None:
    print(f"config.{old} was renamed; use config.{new}", file=sys.stderr)
