"""Import weights of other libraries, and export trained models to them.

python -m mtl_jax.convert torchvision maskrcnn.pth --workdir runs/coco
python -m mtl_jax.convert matterport mask_rcnn_coco.h5 --workdir runs/coco
python -m mtl_jax.convert to-torchvision runs/coco --output maskrcnn.pth
python -m mtl_jax.convert pack runs/coco --output coco.npz
python -m mtl_jax.convert card coco.npz
python -m mtl_jax.convert export runs/coco --output exported
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from mtl_jax import commandline
from mtl_jax.convert import matterport, torchvision
from mtl_jax.convert.export import export
from mtl_jax.convert.model_files import find_model
from mtl_jax.errors import UserError
from mtl_jax.runs.loading import read_checkpoint
from mtl_jax.runs.origin import read_card
from mtl_jax.training.single_file import write_pack

_TORCHVISION = """Create a run folder RUN from torchvision's weights of a Mask R-CNN, Faster R-CNN
or Keypoint R-CNN, or of a ResNet or ConvNeXt-T, which becomes the backbone.

    python -m mtl_jax.convert torchvision maskrcnn.pth --workdir runs/coco
    python -m mtl_jax.convert torchvision maskrcnn_resnet50_fpn --workdir runs/coco

FILE is a state dict (.pth or .safetensors; PyTorch is not required), or the name of public weights,
which are downloaded: ours (resnet50) or torchvision's (ResNet50_Weights.IMAGENET1K_V2). Settings
that a state dict does not contain have torchvision's defaults; the options change them."""
_MATTERPORT = """Create a run folder RUN from weights (Keras, HDF5) of matterport's Mask_RCNN or of
MTL_MRCNN.

    python -m mtl_jax.convert matterport mask_rcnn_coco.h5 --workdir runs/coco
    python -m mtl_jax.convert matterport mask_rcnn_shapes.h5 --workdir runs/heads --min-size 128 \\
        --max-size 128 --anchor-sizes 64 96 128 256 320 --anchor-ratios .7 .8 .9 1 1.1 1.2 1.3

Settings that the file does not contain have the defaults of matterport's config; the options change
them. Anchor ratios are width / height, as in matterport's config."""
_TO_TORCHVISION = """Write the weights of a run folder RUN as a state dict for torchvision's model.

    python -m mtl_jax.convert to-torchvision runs/coco --output maskrcnn.pth
"""
_PACK = """Write the model of a run folder RUN to one file, to share it, and print its SHA-256. The
file can replace RUN as an initial checkpoint and in Predictor.from_checkpoint. It contains a card:
the data and the weights that it was trained on, with the licences that they state, and its metrics.

    python -m mtl_jax.convert pack runs/coco --output coco.npz
    python train.py --config configs/prima_pose.py --config.init.checkpoint=coco.npz
"""
_CARD = """Print what a model was trained on and how it scored, as JSON. MODEL is a run folder, a
packed file, an address of one, or the name of public weights.

    python -m mtl_jax.convert card coco.npz
"""
_EXPORT = """Export the model of a run folder RUN as StableHLO (jax.export) and as a TensorFlow
SavedModel, both with its weights. A model.json describes it, and a short program shows how to use
it without this library.

    python -m mtl_jax.convert export runs/coco --output exported --batch-size 1
"""


def main(argv: Sequence[str], prog: str = "python -m mtl_jax.convert") -> int:
    """Run the command that the user calls `prog`."""
    parser = commandline.Parser(__doc__, prog)
    commands = parser.add_subparsers(
        dest="command",
        required=True,
        metavar="torchvision|matterport|to-torchvision|pack|card|export",
    )
    _add_torchvision(commands.add_parser("torchvision", doc=_TORCHVISION))
    _add_matterport(commands.add_parser("matterport", doc=_MATTERPORT))
    _add_to_torchvision(commands.add_parser("to-torchvision", doc=_TO_TORCHVISION))
    _add_pack(commands.add_parser("pack", doc=_PACK))
    _add_card(commands.add_parser("card", doc=_CARD))
    _add_export(commands.add_parser("export", doc=_EXPORT))
    arguments, overrides = parser.parse_with_overrides(argv)
    if arguments.command == "export":
        arguments.overrides = overrides
    elif overrides:
        raise UserError(f"{overrides[0]}: only the command `export` supports config overrides")
    arguments.run(arguments)
    return 0


def _add_torchvision(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="state dict, or name of public weights")
    parser.add_argument("--workdir", type=Path, required=True, help="run folder to create")
    parser.add_argument("--arch", default="", help="torchvision's name of the model (guessed)")
    parser.add_argument("--min-size", type=int, default=800, help="shorter side in pixels (800)")
    parser.add_argument("--max-size", type=int, default=1333, help="longer side in pixels (1333)")
    parser.add_argument("--norm-eps", type=float, help="epsilon of norms (1e-5 or known)")
    parser.add_argument("--score-threshold", type=float, default=0.05, help="minimum score (0.05)")
    parser.add_argument("--class-names", type=Path, help="file with a name per line, from class 1")
    parser.add_argument("--unused", nargs="*", default=(), help="patterns of keys to ignore")
    parser.set_defaults(run=lambda arguments: torchvision.import_weights(**_options(arguments)))


def _add_matterport(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file",
        metavar="FILE",
        help="Keras weight file (.h5) or mask_rcnn_coco",
    )
    parser.add_argument("--workdir", type=Path, required=True, help="run folder to create")
    parser.add_argument("--min-size", type=int, default=800, help="shorter side in pixels (800)")
    parser.add_argument("--max-size", type=int, default=1024, help="padded side in pixels (1024)")
    parser.add_argument("--score-threshold", type=float, default=0.7, help="minimum score (0.7)")
    parser.add_argument(
        "--anchor-sizes",
        type=float,
        nargs=5,
        default=(),
        help="in pixels, for P2 .. P6 (32 64 128 256 512)",
    )
    parser.add_argument(
        "--anchor-ratios",
        type=float,
        nargs="+",
        default=(),
        help="width / height (0.5 1 2)",
    )
    parser.add_argument("--class-names", type=Path, help="file with a name per line, from class 1")
    parser.add_argument("--unused", nargs="*", default=(), help="patterns of keys to ignore")
    parser.set_defaults(run=lambda arguments: matterport.import_weights(**_options(arguments)))


def _add_to_torchvision(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("workdir", metavar="RUN", type=Path)
    parser.add_argument("--output", type=Path, required=True, help=".pth file to write")
    parser.add_argument("--step", default="best", help="best, latest or a step number (best)")
    parser.set_defaults(run=lambda arguments: torchvision.export_weights(**_options(arguments)))


def _add_pack(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("workdir", metavar="RUN", type=Path)
    parser.add_argument("--output", type=Path, required=True, help=".npz file to write")
    parser.add_argument("--step", default="best", help="best, latest or a step number (best)")
    parser.add_argument("--licence", default="", help="licence under which you share the weights")
    parser.set_defaults(run=_pack)


def _pack(arguments: argparse.Namespace) -> None:
    if arguments.output.suffix != ".npz":
        raise UserError(f"--output {arguments.output}: must end in .npz")
    card = read_card(arguments.workdir, arguments.step)
    step = card.get("step", arguments.step)  # "best" may change while the run is trained
    metadata, variables = read_checkpoint(arguments.workdir, step)
    if arguments.licence:
        card["licence"] = arguments.licence
    digest = write_pack(arguments.output, {**metadata, "card": card}, variables)
    print(f"{arguments.output}: SHA-256 {digest}")


def _add_card(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--step", default="best", help="best, latest or a step number (best)")
    parser.set_defaults(run=_card)


def _card(arguments: argparse.Namespace) -> None:
    card = read_card(find_model(arguments.model, whole=False), arguments.step)
    print(json.dumps(card, indent=2))  # in ASCII: a stranger may have written it


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("workdir", metavar="RUN", type=Path)
    parser.add_argument("--output", type=Path, required=True, help="folder to write, empty or new")
    parser.add_argument("--batch-size", type=int, default=1, help="images per batch (1)")
    parser.add_argument("--step", default="best", help="best, latest or a step number (best)")
    parser.add_argument("--no-saved-model", dest="saved_model", action="store_false")
    parser.set_defaults(run=lambda arguments: export(**_options(arguments)))


def _options(arguments: argparse.Namespace) -> dict:
    return {k: v for k, v in vars(arguments).items() if k not in ("command", "run")}


if __name__ == "__main__":
    commandline.run(main)
