"""Configs from files, and overrides of their fields from the command line."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from mtl_jax.attributes import declarations as attributes
from mtl_jax.errors import UserError, suggest
from mtl_jax.io.user_module import load_module, user_code_errors

_SOURCES = "--config.data.sources="
_SOURCE = re.compile(r"--config\.data\.sources\[(\d+)\]\.(\w+)")  # a key of a source's block


def load_config_file(spec: str) -> ConfigDict:
    """Give the config of FILE.py or FILE.py:variant, by its `get_config(variant)`."""
    name, _, variant = spec.partition(":")
    path = Path(name)
    if not path.is_file() or path.suffix != ".py":
        folders = {path.parent, Path("configs")}
        others = sorted(str(other) for folder in folders for other in folder.glob("*.py"))
        raise UserError(f"{name}: no such config file{suggest(name, others)}")
    module = load_module(path)
    with user_code_errors(path):
        return _get_config(module, name, variant)


def _get_config(module: ModuleType, name: str, variant: str) -> ConfigDict:
    for needed in ("VARIANTS", "get_config"):
        if not hasattr(module, needed):
            raise UserError(
                f'{name}: has no {needed}; a config file has VARIANTS, as ("",), and '
                "get_config(variant)"
            )
    if variant not in module.VARIANTS:
        known = ", ".join(f"{name}:{v}" if v else name for v in module.VARIANTS)
        raise UserError(f"{name}:{variant}: no such variant; there are {known}")
    config = module.get_config(variant)
    # With all their options, so that each can be overridden and the run's config.json tells all.
    config.attributes = attributes.with_defaults(config.attributes.to_dict())
    return config


def override(config: ConfigDict, arguments: Sequence[str]) -> None:
    """Set fields of `config` from `--config.field=value` arguments, each with the type that the
    field has. Sources go first: where their first block says its format, the short fields that
    `config` has of its own are put away.
    """
    for argument in sorted(arguments, key=lambda argument: not argument.startswith(_SOURCES)):
        if source := _SOURCE.match(argument):
            _add_default(config, int(source[1]), source[2])
        values, argv = flags.FlagValues(), ["mtl_jax", argument]
        try:
            config_flags.DEFINE_config_dict(
                "config", config, lock_config=True, flag_values=values, sys_argv=argv
            )
            values(argv)
        except (flags.Error, AttributeError, KeyError, TypeError, ValueError, IndexError):
            raise UserError(_explain(config, argument)) from None
        if argument.startswith(_SOURCES):
            _put_short_away(config.data)


def _put_short_away(data: ConfigDict) -> None:
    """Empty the short fields of the data where the first block says its format itself."""
    from mtl_jax.data.datasets.blocks import SHORT  # it loads what reads pictures

    if data.sources and isinstance(data.sources[0], Mapping) and data.sources[0].get("format"):
        for name in SHORT:
            data[name] = ""


def _add_default(config: ConfigDict, number: int, key: str) -> None:
    """Give a block of the data a key of its format that it leaves out, so that it can be set."""
    from mtl_jax.data.datasets.blocks import complete

    blocks = list(config.data.sources)
    if number >= len(blocks) or not isinstance(blocks[number], Mapping):
        return
    block = dict(blocks[number])
    if config.data.format and number == 0:
        block["format"] = config.data.format
    full = complete(block)
    if key in full:
        value = full[key]
        # None stands for the format's own True or False.
        blocks[number] = {**blocks[number], key: True if value is None else value}
        config.data.sources = tuple(blocks)


def _explain(config: ConfigDict, argument: str) -> str:
    field = argument.partition("=")[0].removeprefix("--")
    fields = dict(_fields(config, "config"))
    if field not in fields:
        return f"no field {field}{suggest(field, list(fields))}"
    value = fields[field]
    if isinstance(value, Mapping | ConfigDict):
        if not value:
            return f"{argument}: {field} is empty; write what it is to hold into the config file"
        return f"{argument}: {field} holds the fields {', '.join(value)}; set one of these"
    return f"{argument}: {field} wants a value like {value!r}"


def _fields(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Give every field and group of fields below `name`, with its full name."""
    yield name, value
    if isinstance(value, Mapping | ConfigDict):
        for key, item in value.items():
            yield from _fields(item, f"{name}.{key}")
    elif isinstance(value, tuple) and value and isinstance(value[0], Mapping):
        for i, item in enumerate(value):
            yield from _fields(item, f"{name}[{i}]")
