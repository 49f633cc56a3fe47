"""Inspect data before training, and a model after it, on pages for a browser.

python -m mtl_jax.visualize data --config configs/balloon.py --output look
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mtl_jax import commandline
from mtl_jax.config.overrides import load_config_file, override

_DATA = """Show a config's data: counts, sizes, labels, problems, anchors and training input.

    python -m mtl_jax.visualize data --config configs/shapes.py --output look
    python -m mtl_jax.visualize data --config configs/prima_pose.py --split val --output look

Writes OUTPUT/index.html, with embedded images, and each image as a PNG. Records with errors are
listed and skipped."""

_MODEL = """Show how a trained model processes an image: proposals, regions, filters, masks, layers.

    python -m mtl_jax.visualize model --workdir runs/shapes --input test:0 --output look
    python -m mtl_jax.visualize model --input photo.jpg --output look

For an image of the run's data (its file, or SPLIT:NUMBER), annotations are shown as well. Writes
OUTPUT/index.html, with embedded images, each image as a PNG, and architecture.svg."""


def main(argv: Sequence[str], prog: str = "python -m mtl_jax.visualize") -> int:
    """Run the command that the user calls `prog`."""
    parser = commandline.Parser(__doc__, prog)
    commands = parser.add_subparsers(dest="command", required=True, metavar="data|model")
    data = commands.add_parser("data", doc=_DATA)
    data.add_argument("--config", required=True, help="FILE.py[:variant] or NAME[:variant]")
    data.add_argument("--output", type=Path, required=True, help="folder to write")
    data.add_argument("--split", default="train", help="train, val or test (default: train)")
    data.add_argument(
        "--limit", type=int, default=2000, help="maximum number of records measured (default: 2000)"
    )
    data.add_argument(
        "--seed", type=int, default=0, help="seed that selects the images shown (default: 0)"
    )
    data.set_defaults(run=_show_data)
    model = commands.add_parser("model", doc=_MODEL)
    model.add_argument("--workdir", help="run folder (default: the newest below runs)")
    model.add_argument(
        "--input", required=True, help="image file, or SPLIT:NUMBER of the run's data"
    )
    model.add_argument("--output", type=Path, required=True, help="folder to write")
    model.add_argument(
        "--step", default="best", help="checkpoint: best, latest or a step number (default: best)"
    )
    model.add_argument(
        "--seed", type=int, default=0, help="seed that selects the regions shown (default: 0)"
    )
    model.add_argument(
        "--trust",
        action="store_true",
        help="open the data of somebody else's run as your own: run the Python file, and read all "
        "files, that its config names",
    )
    model.set_defaults(run=_show_model)
    arguments, overrides = parser.parse_with_overrides(argv)
    return arguments.run(arguments, overrides)


def _show_data(arguments: argparse.Namespace, overrides: Sequence[str]) -> int:
    from mtl_jax.training.compilation_cache import enable_compilation_cache
    from mtl_jax.visualize.data_page.page import Shown, write_data_page

    enable_compilation_cache()
    commandline.report_shipped(arguments.config)
    config = load_config_file(arguments.config)
    override(config, overrides)
    shown = Shown.from_config(config, arguments.split, arguments.seed)
    title = f"{arguments.config}: {arguments.split}"
    print(write_data_page(title, shown, arguments.limit, arguments.output))
    return 0


def _show_model(arguments: argparse.Namespace, overrides: Sequence[str]) -> int:
    from mtl_jax.visualize.model_page.inspection import Inspection
    from mtl_jax.visualize.model_page.page import write_model_page

    workdir = commandline.find_run(arguments.workdir)
    inspection = Inspection.from_run(
        workdir,
        arguments.input,
        arguments.step,
        overrides,
        arguments.seed,
        trust=arguments.trust,
    )
    print(
        write_model_page(f"{workdir}: {inspection.record.file_name}", inspection, arguments.output)
    )
    return 0


if __name__ == "__main__":
    commandline.run(main)
