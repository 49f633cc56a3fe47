"""Bring weights of other libraries here, and take ours there.

python -m mtl_jax.convert torchvision maskrcnn.pth --workdir runs/coco
python -m mtl_jax.convert matterport mask_rcnn_coco.h5 --workdir runs/coco
python -m mtl_jax.convert to-torchvision runs/coco --output maskrcnn.pth
python -m mtl_jax.convert pack runs/coco --output coco.npz
python -m mtl_jax.convert export runs/coco --output exported
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mtl_jax import commandline
from mtl_jax.convert import matterport, torchvision
from mtl_jax.convert.export import export
from mtl_jax.errors import UserError
from mtl_jax.runs.loading import read_checkpoint
from mtl_jax.training.single_file import write_pack

_TORCHVISION = """Make a RUN of torchvision's weights: a Mask or Faster R-CNN, or a ResNet's for its
backbone.

    python -m mtl_jax.convert torchvision maskrcnn.pth --workdir runs/coco
    python -m mtl_jax.convert torchvision MaskRCNN_ResNet50_FPN_Weights.COCO_V1 --workdir runs/coco

FILE is a state dict (.pth where PyTorch is installed, .safetensors without it), or the name of an
entry of torchvision's weights, which torchvision fetches. What a state dict cannot say has
torchvision's default; the options change it."""
_MATTERPORT = """Make a RUN of matterport Mask_RCNN's weights (Keras, HDF5), or of MTL_MRCNN's.

    python -m mtl_jax.convert matterport mask_rcnn_coco.h5 --workdir runs/coco
    python -m mtl_jax.convert matterport mask_rcnn_shapes.h5 --workdir runs/heads --min-size 128 \\
        --max-size 128 --anchor-sizes 64 96 128 256 320 --anchor-ratios .7 .8 .9 1 1.1 1.2 1.3

What such a file cannot say has the default of matterport's config; the options change it. Anchor
ratios are width over height, as there."""
_TO_TORCHVISION = """Write a RUN's weights as a state dict that torchvision's model loads.

    python -m mtl_jax.convert to-torchvision runs/coco --output maskrcnn.pth
"""
_PACK = """Make one file of a RUN's model, to share, and print its SHA-256. A training starts from
it, and Predictor.from_checkpoint reads it, as they would the RUN.

    python -m mtl_jax.convert pack runs/coco --output coco.npz
    python train.py --config configs/prima_pose.py --config.init.checkpoint=coco.npz
"""
_EXPORT = """Write a RUN's model as StableHLO (jax.export) and a TensorFlow SavedModel, the weights
inside, with model.json and a short program that uses it without this library.

    python -m mtl_jax.convert export runs/coco --output exported --batch-size 1
"""


def main(argv: Sequence[str]) -> int:
    parser = commandline.Parser(__doc__ or "", prog="python -m mtl_jax.convert")
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="torchvision|matterport|to-torchvision|pack|export"
    )
    _add_torchvision(commands.add_parser("torchvision", doc=_TORCHVISION))
    _add_matterport(commands.add_parser("matterport", doc=_MATTERPORT))
    _add_to_torchvision(commands.add_parser("to-torchvision", doc=_TO_TORCHVISION))
    _add_pack(commands.add_parser("pack", doc=_PACK))
    _add_export(commands.add_parser("export", doc=_EXPORT))
    arguments, overrides = parser.parse_with_overrides(argv)
    if arguments.command == "export":
        arguments.overrides = overrides
    elif overrides:
        raise UserError(f"{overrides[0]}: is for export alone")
    arguments.run(arguments)
    return 0


def _add_torchvision(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a state dict, or an entry's name")
    parser.add_argument("--workdir", type=Path, required=True, help="the RUN to make")
    parser.add_argument("--arch", default="", help="torchvision's name of the model (guessed)")
    parser.add_argument("--min-size", type=int, default=800, help="of the shorter side (800)")
    parser.add_argument("--max-size", type=int, default=1333, help="of the longer side (1333)")
    parser.add_argument("--norm-eps", type=float, help="of batch norms (1e-5; COCO_V1's 0)")
    parser.add_argument("--score-threshold", type=float, default=0.05, help="of detections (0.05)")
    parser.add_argument("--class-names", type=Path, help="a file with a name a line, from class 1")
    parser.add_argument("--unused", nargs="*", default=(), help="patterns of keys to leave out")
    parser.set_defaults(run=lambda arguments: torchvision.import_weights(**_options(arguments)))


def _add_matterport(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a Keras weight file (.h5)")
    parser.add_argument("--workdir", type=Path, required=True, help="the RUN to make")
    parser.add_argument("--min-size", type=int, default=800, help="of the shorter side (800)")
    parser.add_argument("--max-size", type=int, default=1024, help="of the square canvas (1024)")
    parser.add_argument("--score-threshold", type=float, default=0.7, help="of detections (0.7)")
    parser.add_argument(
        "--anchor-sizes",
        type=float,
        nargs=5,
        default=(),
        help="pixels on P2 .. P6 (32 64 128 256 512)",
    )
    parser.add_argument(
        "--anchor-ratios",
        type=float,
        nargs="+",
        default=(),
        help="width over height (0.5 1 2)",
    )
    parser.add_argument("--class-names", type=Path, help="a file with a name a line, from class 1")
    parser.add_argument("--unused", nargs="*", default=(), help="patterns of keys to leave out")
    parser.set_defaults(run=lambda arguments: matterport.import_weights(**_options(arguments)))


def _add_to_torchvision(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("workdir", metavar="RUN", type=Path)
    parser.add_argument("--output", type=Path, required=True, help="the .pth to write")
    parser.add_argument("--step", default="best", help="best, latest or a step (best)")
    parser.set_defaults(run=lambda arguments: torchvision.export_weights(**_options(arguments)))


def _add_pack(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("workdir", metavar="RUN", type=Path)
    parser.add_argument("--output", type=Path, required=True, help="the .npz to write")
    parser.add_argument("--step", default="best", help="best, latest or a step (best)")
    parser.set_defaults(run=_pack)


def _pack(arguments: argparse.Namespace) -> None:
    if arguments.output.suffix != ".npz":
        raise UserError(f"--output {arguments.output}: must end in .npz")
    digest = write_pack(arguments.output, *read_checkpoint(arguments.workdir, arguments.step))
    print(f"{arguments.output}: SHA-256 {digest}")


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("workdir", metavar="RUN", type=Path)
    parser.add_argument("--output", type=Path, required=True, help="the folder to fill")
    parser.add_argument("--batch-size", type=int, default=1, help="pictures at a time (1)")
    parser.add_argument("--step", default="best", help="best, latest or a step (best)")
    parser.add_argument("--no-saved-model", dest="saved_model", action="store_false")
    parser.set_defaults(run=lambda arguments: export(**_options(arguments)))


def _options(arguments: argparse.Namespace) -> dict:
    return {k: v for k, v in vars(arguments).items() if k not in ("command", "run")}


if __name__ == "__main__":
    commandline.run(main)
