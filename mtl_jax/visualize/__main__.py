"""Look at data before training, and into a model after it: pages that open in a browser.

python -m mtl_jax.visualize data --config configs/balloon.py --output look
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mtl_jax import commandline
from mtl_jax.config.overrides import load_config_file, override

_DATA = """Show a config's data: counts, sizes, labels, problems, anchors, and what training sees.

    python -m mtl_jax.visualize data --config configs/shapes.py --output look
    python -m mtl_jax.visualize data --config configs/prima_pose.py --split val --output look

Writes OUTPUT/index.html, which holds its pictures, and each picture as a PNG. Records with faults
are listed and left out."""

_MODEL = """Follow one picture through a trained model: proposals, regions, filters, masks, layers.

    python -m mtl_jax.visualize model --workdir runs/shapes --input test:0 --output look
    python -m mtl_jax.visualize model --input photo.jpg --output look

A picture of the run's data (by its file, or as SPLIT:NUMBER) shows its annotations too. Writes
OUTPUT/index.html, which holds its pictures, each picture as a PNG, and architecture.svg."""


def main(argv: Sequence[str]) -> int:
    parser = commandline.Parser(__doc__ or "", prog="python -m mtl_jax.visualize")
    commands = parser.add_subparsers(dest="command", required=True, metavar="data|model")
    data = commands.add_parser("data", doc=_DATA)
    data.add_argument(
        "--config", required=True, help="the config's file, FILE.py or FILE.py:variant"
    )
    data.add_argument("--output", type=Path, required=True, help="the folder to write")
    data.add_argument("--split", default="train", help="train, val or test (train)")
    data.add_argument("--limit", type=int, default=2000, help="records that are measured (2000)")
    data.add_argument("--seed", type=int, default=0, help="which pictures are shown (0)")
    data.set_defaults(run=_show_data)
    model = commands.add_parser("model", doc=_MODEL)
    model.add_argument("--workdir", help="the run's folder; by default the newest one under runs")
    model.add_argument(
        "--input", required=True, help="a picture, or SPLIT:NUMBER of the run's data"
    )
    model.add_argument("--output", type=Path, required=True, help="the folder to write")
    model.add_argument("--step", default="best", help="best, latest or a number of steps")
    model.add_argument("--seed", type=int, default=0, help="which random regions are shown (0)")
    model.set_defaults(run=_show_model)
    arguments, overrides = parser.parse_with_overrides(argv)
    return arguments.run(arguments, overrides)


def _show_data(arguments: argparse.Namespace, overrides: Sequence[str]) -> int:
    from mtl_jax.training.compilation_cache import enable_compilation_cache
    from mtl_jax.visualize.data_page.page import Shown, write_data_page

    enable_compilation_cache()
    config = load_config_file(arguments.config)
    override(config, overrides)
    shown = Shown.from_config(config, arguments.split, arguments.seed)
    title = f"{arguments.config}: {arguments.split}"
    print(write_data_page(title, shown, arguments.limit, arguments.output))
    return 0


def _show_model(arguments: argparse.Namespace, overrides: Sequence[str]) -> int:
    from mtl_jax.visualize.model_page.inspection import Look
    from mtl_jax.visualize.model_page.page import write_model_page

    workdir = commandline.find_run(arguments.workdir)
    look = Look.from_run(workdir, arguments.input, arguments.step, overrides, arguments.seed)
    print(write_model_page(f"{workdir}: {look.record.file_name}", look, arguments.output))
    return 0


if __name__ == "__main__":
    commandline.run(main)
