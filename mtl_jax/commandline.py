"""Command-line code shared by the command `mtl-jax`, the scripts and the `python -m` commands:
argument parsing, the lookup of the newest run, and errors printed as one line with exit code 2.
"""

import argparse
import re
import sys
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from mtl_jax.config.shipped import find_config
from mtl_jax.errors import AnnotationErrors, UserError, printable, suggest, summarize
from mtl_jax.io.atomic import DISK_ERRORS

# A command as docstrings show it: in a checkout, without an installation.
_IN_CHECKOUT = re.compile(r"python (?:-m mtl_jax\.(\w+)|(train|evaluate|predict)\.py)")
# Packages that requirements-predict.txt omits.
_ONLY_IN_FULL = ("tensorflow", "tensorflow_datasets")


def run(main: Callable[[Sequence[str]], int]) -> None:
    """Run `main` on the command-line arguments and exit with its return value.

    A UserError, a file that cannot be read or written, and a package that is not part of an
    installation for prediction, is printed as one line; the exit code is then 2.
    """
    try:
        code = main(sys.argv[1:])
    except UserError as error:
        lines = str(error).split("\n")
        # The faults of annotations are summarised already.
        for line in lines if isinstance(error, AnnotationErrors) else summarize(lines):
            print(line, file=sys.stderr)
        code = 2
    except OSError as error:
        if error.filename is None and error.errno not in DISK_ERRORS:
            raise
        parts = filter(None, (error.filename, error.strerror))
        print(printable(": ".join(map(str, parts))), file=sys.stderr)
        code = 2
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _ONLY_IN_FULL:
            raise
        print(
            f"{package} is not installed; prediction does not require it, but this command does: "
            "install mtl_jax without --no-deps, so that pip installs all requirements",
            file=sys.stderr,
        )
        code = 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        code = 130
    sys.exit(code)


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line.

    The commands in `doc` are shown in the form of `prog`: `python train.py ...` or, if `prog`
    begins with mtl-jax, `mtl-jax train ...`.
    """

    def __init__(self, doc: str | None, prog: str | None = None, **kwargs: Any):
        if (prog or "").startswith("mtl-jax"):
            doc = _IN_CHECKOUT.sub(r"mtl-jax \1\2", doc or "")
        super().__init__(
            prog,
            description=doc,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            **kwargs,
        )

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog}: {message} (see {self.prog} --help)")

    def parse_with_overrides(self, argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
        """Parse `argv` and return the namespace and the `--config.field=value` arguments.

        Raises UserError for any other unknown argument.
        """
        own: list[str] = []
        overrides: list[str] = []
        waiting = deque(argv)
        while waiting:  # before argparse, which takes an option that contains a space for a value
            argument = waiting.popleft()
            if not argument.startswith("--config."):
                own.append(argument)
            elif "=" in argument or not waiting or waiting[0].startswith("--"):
                overrides.append(argument)
            else:
                overrides.append(f"{argument}={waiting.popleft()}")
        namespace, rest = self.parse_known_args(own)
        if rest:
            known = [option for action in self._actions for option in action.option_strings]
            raise UserError(f"unknown argument {rest[0]!r}{suggest(rest[0], known)}")
        return namespace, overrides


def choose_model(model: str | None, workdir: str | None, sha256: str | None = None) -> Path:
    """Return what predicts, and print it: `model` (see `find_model`), else the run folder or packed
    file `workdir`, else the newest run under runs.

    Raises UserError if there is none.
    """
    from mtl_jax.convert.model_files import find_model

    if model == "":
        raise UserError("--model is empty; pass a name, an address, a file or a run folder")
    if model:
        found = find_model(model, sha256)
        print(f"model: {model}" if str(found) == model else f"model: {model} ({found})")
        return found
    if sha256 is not None:
        raise UserError(f"--sha256 {sha256}: requires --model")
    if not workdir and newest_run() is None:
        raise UserError(
            "no run found under runs; pass --workdir RUN, or --model maskrcnn_resnet50_fpn_v2, "
            "which downloads public weights"
        )
    found = find_run(workdir, packed=True)
    print(f"model: {found}" if workdir else f"model: {found} (the newest run under runs)")
    return found


def newest_run() -> Path | None:
    """Return the newest run under runs; None if there is none."""
    configs = sorted(Path("runs").glob("*/config.json"), key=lambda path: path.stat().st_mtime)
    return configs[-1].parent if configs else None


def report_shipped(spec: str) -> None:
    """Print the path of a shipped config that `--config` names without its path."""
    name = spec.partition(":")[0]
    if (path := find_config(name)) != Path(name):
        print(f"{name}: shipped config {path}", file=sys.stderr)


def find_run(workdir: str | None, packed: bool = False) -> Path:
    """Return the folder `workdir`, or the newest run under runs if it is None.

    With `packed`, `workdir` can also be the file of a packed model. Raises UserError if there is no
    run.
    """
    if workdir:
        if packed and Path(workdir).is_file():
            return Path(workdir)
        if not (Path(workdir) / "config.json").is_file():
            raise UserError(
                f"{workdir}: not a run folder (config.json is missing); create one with train.py "
                "or `mtl-jax train`"
            )
        return Path(workdir)
    newest = newest_run()
    if newest is None:
        raise UserError("no run found under runs; train a model first, or pass --workdir")
    return newest
