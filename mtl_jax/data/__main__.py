"""Prepare data: download a COCO file's pictures, divide a COCO file, write drawn scenes, put masks
on faces, write faces into a table.

python -m mtl_jax.data download dataset.json --output data/heads
python -m mtl_jax.data split data/heads/dataset.json --output data/heads/splits --seed 0
python -m mtl_jax.data export synthetic --output data/scenes --count 8
python -m mtl_jax.data mask-faces --input data/UTKFace --output data/masked --seed 0
python -m mtl_jax.data face-csv --input data/UTKFace --output data/age_gender.csv
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mtl_jax import commandline
from mtl_jax.attributes.declarations import from_config
from mtl_jax.data.readers.faces.utkface import UTKFaceSource
from mtl_jax.data.readers.tables.face_csv import ATTRIBUTES, gray_faces, write_face_csv
from mtl_jax.data.records import Source
from mtl_jax.data.synthetic import head_scenes
from mtl_jax.data.synthetic.head_scenes import SyntheticSource
from mtl_jax.data.synthetic.shapes import ShapesSource
from mtl_jax.data.tools import coco_split
from mtl_jax.data.tools.download import download
from mtl_jax.data.tools.export import export
from mtl_jax.data.tools.mask_faces import write_masked
from mtl_jax.errors import UserError

_DOWNLOAD = """Fetch the pictures of a COCO file whose file names are addresses.

    python -m mtl_jax.data download dataset.json --output data/heads

Pictures go to OUTPUT/images, the file with their new names to OUTPUT. Run it again to fetch what is
missing. Exit 0: all are there; 1: some are not; 2: none is, or bad usage."""
_SPLIT = """Divide a COCO file into train.json, val.json and test.json, every image in one of them.

    python -m mtl_jax.data split dataset.json --output data/splits --fractions .7 .15 .15 --seed 0

Images of one picture file, or with one value under --group-key (such as a person's), stay together.
"""
_TOLD = 20  # of the pictures that were left out
_EXPORT = """Write drawn scenes, heads or shapes, as pictures and a COCO file with their labels.

    python -m mtl_jax.data export synthetic --output data/scenes --count 8 --seed 7 --size 256

Those of configs/mtl_synthetic.py:quickstart: --heads 1 2 --head-heights .5 .95 --turn 45 35 30
"""
_MASK_FACES = """Write the pictures of a folder again, their faces in masks drawn here: surgical,
N95, KN95, cloth, scarf.

    python -m mtl_jax.data mask-faces --input data/UTKFace --output data/masked --seed 0

Pictures have iBUG's points beside them (.pts, or a .mat as AFLW2000's), or, in a folder of square
ones, are aligned chips such as UTKFace's; on these the face is taken to look at the camera, and
where it does not, as now and then on FairFace's, the mask sits beside it. The faces of others are
found by a run with landmarks:

    python predict.py --workdir runs/hyperface_mixed --input photos --output found
    python -m mtl_jax.data mask-faces --input photos --faces found/predictions.json --output masked

What is found and is no face wears a mask, too: look at the sheet, and raise --min-score. Pictures
on which no face was found are left out.

OUTPUT/images is the data set again: the pictures under their names, and what lay beside them.
OUTPUT/outlines shows where the masks are: the format masks reads both, with
annotations="outlines". OUTPUT/masks.json has the masks of each picture, none of a bare one,
OUTPUT/sheet.png some to look at. A config does the same on the way, with `masks` in a block of
config.data.sources, or config.data.augment.mask.

Exit 0: all were written; 1: some were left out; 2: none was written, or bad usage."""
_FACE_CSV = """Write the chips of UTKFace as a table of age, ethnicity, gender and gray pixels.

    python -m mtl_jax.data face-csv --input data/UTKFace --output data/age_gender.csv

It is what the format face_csv reads, and MaskMTL's published code.

Exit 0: all were written; 1: some were left out; 2: none was written, or bad usage."""


def main(argv: Sequence[str]) -> int:
    parser = commandline.Parser(__doc__ or "", prog="python -m mtl_jax.data")
    known = "download|split|export|mask-faces|face-csv"
    commands = parser.add_subparsers(dest="command", required=True, metavar=known)
    _add_download(commands.add_parser("download", doc=_DOWNLOAD))
    _add_split(commands.add_parser("split", doc=_SPLIT))
    _add_export(commands.add_parser("export", doc=_EXPORT))
    _add_mask_faces(commands.add_parser("mask-faces", doc=_MASK_FACES))
    _add_face_csv(commands.add_parser("face-csv", doc=_FACE_CSV))
    arguments = parser.parse_args(list(argv))
    return arguments.run(arguments)


def _add_download(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("annotations", type=Path, help="the COCO file")
    parser.add_argument("--output", type=Path, required=True, help="the folder to fill")
    parser.add_argument(
        "--workers", type=_positive, default=8, help="pictures fetched at a time (8)"
    )
    parser.add_argument(
        "--retries", type=_not_negative, default=3, help="further tries of each (3)"
    )
    parser.add_argument(
        "--timeout", type=float, default=30.0, help="seconds without an answer (30)"
    )
    parser.set_defaults(run=_download)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1")
    return int(text)


def _not_negative(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0")
    return int(text)


def _download(arguments: argparse.Namespace) -> int:
    found = download(
        arguments.annotations,
        arguments.output,
        workers=arguments.workers,
        retries=arguments.retries,
        timeout=arguments.timeout,
    )
    for failure in found.failures:
        print(failure, file=sys.stderr)
    print(
        f"{arguments.output}: {found.fetched} pictures fetched, {found.present} were there, "
        f"{len(found.failures)} missing"
    )
    if not found.failures:
        return 0
    return 1 if found.fetched + found.present else 2


def _add_split(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("annotations", type=Path, help="the COCO file")
    parser.add_argument("--output", type=Path, required=True, help="the folder for the three files")
    parser.add_argument(
        "--fractions", type=float, nargs=3, default=(0.7, 0.15, 0.15), help="train, val, test"
    )
    parser.add_argument("--seed", type=_not_negative, default=0)
    parser.add_argument("--group-key", default="", help="key of an image that names its group")
    parser.set_defaults(run=_split)


def _split(arguments: argparse.Namespace) -> int:
    counts = coco_split.split_file(
        arguments.annotations,
        arguments.output,
        arguments.fractions,
        arguments.seed,
        arguments.group_key,
    )
    for name, (images, annotations) in counts.items():
        print(f"{arguments.output / name}.json: {images} images, {annotations} annotations")
    return 0


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=("synthetic", "shapes"))
    parser.add_argument("--output", type=Path, required=True, help="the folder to fill")
    parser.add_argument("--count", type=_positive, default=8, help="pictures (8)")
    parser.add_argument(
        "--seed", type=_not_negative, default=1000, help="other seeds, other scenes (1000)"
    )
    parser.add_argument("--size", type=_positive, default=256, help="height and width (256)")
    parser.add_argument(
        "--heads",
        type=int,
        nargs=2,
        default=(1, 5),
        metavar=("LEAST", "MOST"),
        help="of a picture (1 5)",
    )
    parser.add_argument(
        "--head-heights",
        type=float,
        nargs=2,
        default=(0.1, 0.6),
        metavar=("LEAST", "MOST"),
        help="as fractions of the picture (0.1 0.6)",
    )
    parser.add_argument(
        "--turn",
        type=float,
        nargs=3,
        default=(75.0, 45.0, 30.0),
        metavar=("YAW", "PITCH", "ROLL"),
        help="most degrees that a head turns (75 45 30)",
    )
    parser.set_defaults(run=_export)


def _export(arguments: argparse.Namespace) -> int:
    try:
        source = _scenes(arguments)
    except ValueError as error:
        raise UserError(str(error)) from None
    declared = from_config(head_scenes.ATTRIBUTES)
    print(f"{arguments.output}: {export(source, arguments.output, declared)} pictures")
    return 0


def _scenes(arguments: argparse.Namespace) -> Source:
    if arguments.kind == "shapes":
        return ShapesSource(arguments.count, arguments.seed, arguments.size)
    yaw, pitch, roll = arguments.turn
    return SyntheticSource(
        arguments.count,
        arguments.seed,
        size=(arguments.size, arguments.size),
        heads=tuple(arguments.heads),
        head_heights=tuple(arguments.head_heights),
        yaw=yaw,
        pitch=pitch,
        roll=roll,
        texture_seed=arguments.seed,
        attributes=from_config(head_scenes.ATTRIBUTES),
    )


def _add_mask_faces(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--input", type=Path, required=True, help="the folder of pictures")
    parser.add_argument("--output", type=Path, required=True, help="the folder to fill")
    parser.add_argument("--faces", type=Path, help="a predictions.json that says where faces are")
    parser.add_argument(
        "--min-score", type=float, default=0.9, help="of those, from 0 to 1, that are faces (0.9)"
    )
    parser.add_argument("--seed", type=int, default=0, help="other seeds, other masks (0)")
    parser.add_argument(
        "--share", type=float, default=1.0, help="of the pictures whose faces wear them (1)"
    )
    parser.set_defaults(run=_mask_faces)


def _mask_faces(arguments: argparse.Namespace) -> int:
    if arguments.seed < 0 or not 0 <= arguments.share <= 1:
        raise UserError("--seed is 0 or more, --share within 0 and 1")
    written = write_masked(
        arguments.input,
        arguments.output,
        arguments.seed,
        arguments.share,
        arguments.faces,
        arguments.min_score,
    )
    _tell(written.faults)
    print(f"{arguments.output}: {written.pictures} pictures, {len(written.faults)} left out")
    return 1 if written.faults else 0


def _add_face_csv(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--input", type=Path, required=True, help="the folder of chips")
    parser.add_argument("--output", type=Path, required=True, help="the table to write")
    parser.add_argument("--side", type=_positive, default=48, help="of a picture, in pixels (48)")
    parser.set_defaults(run=_face_csv)


def _face_csv(arguments: argparse.Namespace) -> int:
    source = UTKFaceSource(arguments.input, ATTRIBUTES, on_error="skip")
    unread: list[str] = []
    count = write_face_csv(arguments.output, gray_faces(source, arguments.side, unread))
    left_out = [*source.skipped, *unread]
    _tell(left_out)
    print(f"{arguments.output}: {count} faces, {len(left_out)} left out")
    return 1 if left_out else 0


def _tell(faults: Sequence[str]) -> None:
    for fault in faults[:_TOLD]:
        print(fault, file=sys.stderr)
    if len(faults) > _TOLD:
        print(f"and {len(faults) - _TOLD} more like these", file=sys.stderr)


if __name__ == "__main__":
    commandline.run(main)
