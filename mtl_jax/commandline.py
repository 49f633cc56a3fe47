"""What the three scripts share: configs from files, overrides, and mistakes told in one line with
exit code 2.
"""

import argparse
import difflib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from mtl_jax.errors import UserError


def run(main: Callable[[Sequence[str]], int]) -> None:
    """Run `main` on the command line's arguments and exit with what it returns; a UserError is one
    line and exit 2.
    """
    try:
        code = main(sys.argv[1:])
    except UserError as error:
        print(error, file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        code = 130
    sys.exit(code)


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are one line."""

    def __init__(self, doc: str, **kwargs: object):
        super().__init__(
            description=doc,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            **kwargs,  # type: ignore[arg-type]
        )

    def error(self, message: str) -> None:  # type: ignore[override]
        raise UserError(f"{self.prog}: {message} (see {self.prog} --help)")

    def parse_with_overrides(self, argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
        """Parse `argv`; what is not this parser's must be `--config.field=value`, and is given
        back.
        """
        namespace, rest = self.parse_known_args(argv)
        overrides: list[str] = []
        arguments = iter(rest)
        for argument in arguments:
            if not argument.startswith("--config."):
                known = [option for action in self._actions for option in action.option_strings]
                raise UserError(f"unknown argument {argument!r}{_suggest(argument, known)}")
            value = "" if "=" in argument else "=" + next(arguments, "")
            overrides.append(argument + value)
        return namespace, overrides


def load_config_file(spec: str) -> ConfigDict:
    """Give the config of FILE.py or FILE.py:variant, by its `get_config(variant)`."""
    name, _, variant = spec.partition(":")
    path = Path(name)
    if not path.is_file():
        others = [str(p) for p in sorted(path.parent.glob("*.py"))]
        raise UserError(f"{name}: no such config file{_suggest(name, others)}")
    module_spec = importlib.util.spec_from_file_location(path.stem, path)
    assert module_spec is not None
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    variants = module.VARIANTS
    if variant not in variants:
        known = ", ".join(f"{name}:{v}" if v else name for v in variants)
        raise UserError(f"{spec}: no such variant; there are {known}")
    return module.get_config(variant)


def override(config: ConfigDict, arguments: Sequence[str]) -> None:
    """Set fields of `config` from `--config.field=value` arguments, each with the type that the
    field has.
    """
    for argument in arguments:
        values, argv = flags.FlagValues(), ["mtl_jax", argument]
        try:
            config_flags.DEFINE_config_dict(
                "config", config, lock_config=True, flag_values=values, sys_argv=argv
            )
            values(argv)
        except (flags.Error, AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
            raise UserError(_explain(config, argument, error)) from None


def _explain(config: ConfigDict, argument: str, error: Exception) -> str:
    field = argument.partition("=")[0].removeprefix("--config.")
    fields = list(_fields(config))
    if field not in fields:
        return f"no field config.{field}{_suggest(field, fields)}"
    value = _value(config, field)
    return f"{argument}: config.{field} is {value!r} and wants another {type(value).__name__}"


def _fields(config: ConfigDict, prefix: str = ""):
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            yield from _fields(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def _value(config: ConfigDict, field: str) -> object:
    for key in field.split("."):
        config = config[key]
    return config


def _suggest(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""


def find_run(workdir: str | None) -> Path:
    """Give the run's folder that was named, or the newest one under runs."""
    if workdir:
        if not (Path(workdir) / "config.json").is_file():
            raise UserError(f"{workdir}: not a run (it has no config.json); train.py makes one")
        return Path(workdir)
    configs = sorted(Path("runs").glob("*/config.json"), key=lambda path: path.stat().st_mtime)
    if not configs:
        raise UserError("there is no run under runs; train one or give --workdir")
    return configs[-1].parent
