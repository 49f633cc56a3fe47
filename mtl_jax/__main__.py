"""The command `mtl-jax`, which can also be called as `python -m mtl_jax`."""

import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from mtl_jax import __version__
from mtl_jax.commandline import run
from mtl_jax.errors import UserError, suggest
from mtl_jax.io.stop_signals import catch_signals

COMMANDS = {
    "train": "train a model, or continue a training",
    "evaluate": "compute the metrics of a trained model, and write a report",
    "predict": "detect objects in images and videos, and draw them",
    "convert": "import and export weights; pack a model into one file",
    "visualize": "show data or a model on a page for a browser",
    "data": "copy a config for your own data; download, split, draw and mask data",
}
_HELP = f"""usage: mtl-jax COMMAND ...

Train models that detect objects, segment them and predict their attributes; use these models.

{"".join(f"  {name:<11}{what}" + chr(10) for name, what in COMMANDS.items())}
  mtl-jax COMMAND --help   the options of a command, with examples
  mtl-jax --version        the version
"""


def main() -> None:
    """Run the command of this process's arguments, and exit."""
    run(_run)


def _run(argv: Sequence[str]) -> int:
    """Run a command. Its modules are imported here: most take seconds."""
    command, *rest = argv or ["--help"]
    prog = f"mtl-jax {command}"
    match command:
        case "train":
            catch_signals()
            from mtl_jax.commands import train

            return train.main(rest, prog, restart=True)
        case "evaluate":
            from mtl_jax.commands import evaluate

            return evaluate.main(rest, prog, restart=True)
        case "predict":
            from mtl_jax.commands import predict

            return predict.main(rest, prog, restart=True)
        case "convert":
            from mtl_jax.convert import __main__ as convert

            return convert.main(rest, prog)
        case "visualize":
            from mtl_jax.visualize import __main__ as visualize

            return visualize.main(rest, prog)
        case "data":
            from mtl_jax.data import __main__ as data

            return data.main(rest, prog)
        case "--version":
            print(f"mtl_jax {__version__} (jax {_version('jax')}, Python {sys.version.split()[0]})")
        case "--help" | "-h" | "help":
            print(_HELP, end="")
        case _:
            near = suggest(command, [*COMMANDS, "--help", "--version"])
            raise UserError(f"mtl-jax: unknown command {command!r}{near} (see mtl-jax --help)")
    return 0


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    main()
