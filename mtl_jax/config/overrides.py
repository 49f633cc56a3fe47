"""Loading of config files, and overrides of their fields from the command line."""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from mtl_jax.attributes import declarations as attributes
from mtl_jax.config.blocks import ORDER, field_of, name_blocks
from mtl_jax.config.fields import as_tuples
from mtl_jax.config.options.data import SHORT
from mtl_jax.config.renamed import with_new_name
from mtl_jax.config.shipped import find_config
from mtl_jax.errors import UserError, suggest
from mtl_jax.io.user_module import load_module, user_code_errors

_SOURCES = "--config.data.sources="
# A block by its name or position, and a field of it: --config.data.sources.faces.weight=2
_BLOCK = re.compile(r"--config\.(data\.sources|stages)(?:\[(\d+)\]|\.([^.=]+))\.(.+)", re.DOTALL)


def load_config_file(spec: str) -> ConfigDict:
    """Return the config of `spec`: FILE.py or FILE.py:variant, or a shipped config's name instead
    of the file, as `find_config` explains.

    Raises UserError if the file or the variant does not exist, or the file raises an exception.
    """
    name, _, variant = spec.partition(":")
    path = find_config(name)
    module = load_module(path)
    with user_code_errors(path):
        return _get_config(module, name, variant)


def _get_config(module: ModuleType, name: str, variant: str) -> ConfigDict:
    for needed in ("VARIANTS", "get_config"):
        if not hasattr(module, needed):
            raise UserError(
                f"{name}: {needed} is missing; a config file must define VARIANTS, such as "
                '("",), and get_config(variant)'
            )
    if variant not in module.VARIANTS:
        known = ", ".join(f"{name}:{v}" if v else name for v in module.VARIANTS)
        raise UserError(f"{name}:{variant}: no such variant; the variants are {known}")
    config = module.get_config(variant)
    # Every option is filled in: each can be overridden, and the run's config.json is complete.
    config.attributes = attributes.with_defaults(config.attributes.to_dict())
    return config


def override(config: ConfigDict, arguments: Sequence[str]) -> None:
    """Set fields of `config`, in place, from `--config.field=value` arguments.

    Values are converted to the types of the fields, and sources and stages to blocks by name.
    `config.data.sources` is set first; if its first block has a format, it also clears the short
    fields of `config.data`. Raises UserError with one line for each invalid argument.
    """
    name_blocks(config)
    faults = []
    for argument in sorted(arguments, key=lambda argument: not argument.startswith(_SOURCES)):
        try:
            _set(config, with_new_name(argument))
        except UserError as error:
            faults.append(str(error))
    if faults:
        raise UserError("\n".join(faults))


def texts_of(arguments: Sequence[str]) -> frozenset[str]:
    """Return the values of `--config.field=value` arguments, and all texts in blocks of sources."""
    values = {argument.partition("=")[2] for argument in arguments}
    blocks = [a.removeprefix(_SOURCES) for a in arguments if a.startswith(_SOURCES)]
    nodes = (node for text in blocks for node in ast.walk(ast.parse(text.strip(), mode="eval")))
    texts = {node.value for node in nodes if isinstance(node, ast.Constant)}
    return frozenset(each for each in values | texts if isinstance(each, str))


def _set(config: ConfigDict, argument: str) -> None:
    field, _, value = argument.partition("=")
    if field in ("--config.data.sources", "--config.stages"):
        _set_blocks(config, field.removeprefix("--config."), value)
        return
    given, argument = argument, _by_name(config, argument)
    values, argv = flags.FlagValues(), ["mtl_jax", argument]
    try:
        config_flags.DEFINE_config_dict(
            "config", config, lock_config=True, flag_values=values, sys_argv=argv
        )
        values(argv)
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, IndexError):
        raise UserError(_explain(config, given, argument)) from None


def _set_blocks(config: ConfigDict, field: str, text: str) -> None:
    """Replace all blocks by a tuple of blocks or blocks by name, as Python source text."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        raise UserError(
            f"config.{field} is {text}; it must be a tuple of blocks, such as ({{'FIELD': value}},)"
        ) from None
    if isinstance(value, Mapping):  # a ConfigDict does not keep its order
        value = {ORDER: tuple(value), **value}
    parent = config.data if field == "data.sources" else config
    with config.unlocked(), config.ignore_type():
        parent[field.rpartition(".")[2]] = value
        if field == "data.sources" and _has_format(value):
            for name in SHORT:
                config.data[name] = ""
    name_blocks(config)


def _has_format(value: Any) -> bool:
    """Return whether the first block has a format."""
    named = isinstance(value, Mapping)
    blocks = [value[name] for name in value if name != ORDER] if named else value
    first = blocks[0] if isinstance(blocks, tuple | list) and blocks else None
    return isinstance(first, Mapping) and bool(first.get("format"))


def _by_name(config: ConfigDict, argument: str) -> str:
    """Replace a block's position by its name, and add the field if the block's format has it."""
    found = _BLOCK.match(argument)
    if found is None:
        return argument
    where, number, name, rest = found.groups()
    blocks = config.data.sources if where == "data.sources" else config.stages
    if number is not None:
        name = field_of(blocks, int(number))
    if name is None or name not in blocks or name == ORDER:
        return argument
    if where == "data.sources":
        _add_default(config, name, re.split(r"[.=]", rest, maxsplit=1)[0])
    return f"--config.{where}.{name}.{rest}"


def _add_default(config: ConfigDict, name: str, key: str) -> None:
    """Add an omitted option of a source's format with its default, so that it can be set."""
    from mtl_jax.data.datasets.blocks import complete  # imports all readers

    block = config.data.sources[name]
    if key in block:
        return
    plain = as_tuples(block)
    if config.data.format and name == field_of(config.data.sources, 0):
        plain["format"] = config.data.format
    full = complete(plain)
    if key in full:
        with block.unlocked(), block.ignore_type():
            # A default of None means True or False, depending on the format.
            block[key] = True if full[key] is None else full[key]


def _explain(config: ConfigDict, given: str, argument: str) -> str:
    """Return the message for the invalid `argument`, which the user wrote as `given`."""
    field = argument.partition("=")[0].removeprefix("--")
    fields = dict(_fields(config, "config"))
    if field not in fields:
        place = "" if given == argument else f"{given.partition('=')[0]}: "
        return f"{place}unknown field {field}{suggest(field, list(fields))}"
    value = fields[field]
    if isinstance(value, Mapping | ConfigDict):
        if not value:
            return f"{given}: {field} is empty; set it in the config file"
        return f"{given}: {field} is a group of fields; set one of {', '.join(value)}"
    return f"{given}: {field} requires a value such as {value!r}"


def _fields(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the full name and the value of `name` and of all fields and groups below it."""
    yield name, value
    if isinstance(value, Mapping | ConfigDict):
        for key, item in value.items():
            yield from _fields(item, f"{name}.{key}")
    elif isinstance(value, tuple) and value and isinstance(value[0], Mapping):
        for i, item in enumerate(value):
            yield from _fields(item, f"{name}[{i}]")
