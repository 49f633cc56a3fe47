"""Prepare data: copy a config for your own data, download the images of a COCO file, split a COCO
file, export drawn scenes, draw masks on faces, write faces as a table.

python -m mtl_jax.data new-config mine
python -m mtl_jax.data download dataset.json --output data/heads
python -m mtl_jax.data split data/heads/dataset.json --output data/heads/splits --seed 0
python -m mtl_jax.data export synthetic --output data/scenes --count 8
python -m mtl_jax.data mask-faces --input data/UTKFace --output data/masked --seed 0
python -m mtl_jax.data face-csv --input data/UTKFace --output data/age_gender.csv
"""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from mtl_jax import commandline
from mtl_jax.attributes.declarations import from_config
from mtl_jax.config.shipped import copy_template
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
from mtl_jax.errors import UserError, summarize
from mtl_jax.io.fetch import Limits

_NEW_CONFIG = """Copy a commented config for your own images, annotated in the format of COCO, VIA,
LabelMe or Pascal VOC, or by images of masks.

    python -m mtl_jax.data new-config mine
    python -m mtl_jax.visualize data --config mine.py --output look
    python train.py --config mine.py

Change the three lines of `source` in mine.py first. An existing file is never overwritten."""
_DOWNLOAD = """Download the images of a COCO file whose file names are URLs.

    python -m mtl_jax.data download dataset.json --output data/heads

Images are written to OUTPUT/images, and the COCO file with their new file names to OUTPUT. Run the
command again to download missing images. Exit status 0: all images are present; 1: some are
missing; 2: all are missing, or the usage is wrong."""
_SPLIT = """Split a COCO file into train.json, val.json and test.json. Each image is in one of them.

    python -m mtl_jax.data split dataset.json --output data/splits --fractions .7 .15 .15 --seed 0

Images with the same file name, or with the same value of --group-key (such as a person), stay in
one file.
"""
_EXPORT = """Write drawn scenes, heads or shapes, as images and a COCO file with their labels.

    python -m mtl_jax.data export synthetic --output data/scenes --count 8 --seed 7 --size 256

The scenes of configs/mtl_synthetic.py:quickstart: --heads 1 2 --head-heights .5 .95 --turn 45 35 30
"""
_MASK_FACES = """Copy a folder of images with masks drawn on the faces: surgical, N95, KN95, cloth,
scarf.

    python -m mtl_jax.data mask-faces --input data/UTKFace --output data/masked --seed 0

A face is located by iBUG's points in a file beside its image (.pts, or .mat as in AFLW2000). If
most images without such a file are square, the square ones are aligned face chips such as
UTKFace's. The face of a chip is assumed to look at the camera; where it does not, as in a few chips
of FairFace, the mask is misplaced. In other images, detect the faces with a run that predicts
landmarks:

    python predict.py --workdir runs/hyperface_mixed --input photos --output found
    python -m mtl_jax.data mask-faces --input photos --faces found/predictions.json --output masked

False positives are masked too: check the sheet, and raise --min-score. Images without a detected
face are left out.

OUTPUT/images contains the images as PNG files, and the files beside them. OUTPUT/outlines contains
the outlines of the masks; the format masks reads both, with annotations="outlines".
OUTPUT/masks.json lists the masks of each image, none for an unmasked one. OUTPUT/sheet.png shows a
sample. To draw masks during training instead, set `masks` in a block of config.data.sources, or
config.data.augment.mask.

Exit status 0: all images were written; 1: some were left out; 2: none was written, or the usage is
wrong."""
_FACE_CSV = """Write the chips of UTKFace as a table of age, ethnicity, gender and gray pixels.

    python -m mtl_jax.data face-csv --input data/UTKFace --output data/age_gender.csv

The format face_csv reads the table, and so does MaskMTL's published code.

Exit status 0: all chips were written; 1: some were left out; 2: none was written, or the usage is
wrong."""


def main(argv: Sequence[str], prog: str = "python -m mtl_jax.data") -> int:
    """Run the command that the user calls `prog`."""
    parser = commandline.Parser(__doc__, prog)
    known = "new-config|download|split|export|mask-faces|face-csv"
    commands = parser.add_subparsers(dest="command", required=True, metavar=known)
    _add_new_config(commands.add_parser("new-config", doc=_NEW_CONFIG))
    _add_download(commands.add_parser("download", doc=_DOWNLOAD))
    _add_split(commands.add_parser("split", doc=_SPLIT))
    _add_export(commands.add_parser("export", doc=_EXPORT))
    _add_mask_faces(commands.add_parser("mask-faces", doc=_MASK_FACES))
    _add_face_csv(commands.add_parser("face-csv", doc=_FACE_CSV))
    arguments = parser.parse_args(list(argv))
    return arguments.run(arguments)


def _add_new_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="the config file to write: NAME or NAME.py")
    parser.set_defaults(run=_new_config)


def _new_config(arguments: argparse.Namespace) -> int:
    path = copy_template(arguments.name)
    print(f"{path}: written; set format, path and categories in it")
    return 0


def _add_download(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("annotations", type=Path, help="the COCO file")
    parser.add_argument("--output", type=Path, required=True, help="the output folder")
    parser.add_argument("--workers", type=_positive, default=8, help="concurrent downloads (8)")
    parser.add_argument("--retries", type=_not_negative, default=3, help="retries of an image (3)")
    parser.add_argument(
        "--timeout", type=_number, default=30.0, help="seconds to wait for a response (30)"
    )
    parser.add_argument(
        "--max-size", type=_number, default=256.0, help="largest image file in MB (256)"
    )
    parser.add_argument(
        "--min-rate", type=_number, default=1.0, help="slowest download in kB per second (1)"
    )
    parser.add_argument(
        "--max-time", type=_number, default=600.0, help="seconds for an image, with retries (600)"
    )
    parser.set_defaults(run=_download)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value


def _not_negative(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, got {text!r}")
    return int(text)


def _download(arguments: argparse.Namespace) -> int:
    found = download(
        arguments.annotations,
        arguments.output,
        workers=arguments.workers,
        retries=arguments.retries,
        limits=Limits(
            size=arguments.max_size * 1e6,
            rate=arguments.min_rate * 1e3,
            time=arguments.max_time,
            timeout=arguments.timeout,
        ),
    )
    _print_faults(found.failures)
    print(
        f"{arguments.output}: {found.fetched} images downloaded, {found.present} already present, "
        f"{len(found.failures)} missing"
    )
    if not found.failures:
        return 0
    return 1 if found.fetched + found.present else 2


def _add_split(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("annotations", type=Path, help="the COCO file")
    parser.add_argument("--output", type=Path, required=True, help="the folder for the three files")
    parser.add_argument(
        "--fractions",
        type=float,
        nargs=3,
        default=(0.7, 0.15, 0.15),
        help="fractions of train, val and test (0.7 0.15 0.15)",
    )
    parser.add_argument("--seed", type=_not_negative, default=0)
    parser.add_argument("--group-key", default="", help="the image key that names the group")
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
    parser.add_argument("--output", type=Path, required=True, help="the output folder")
    parser.add_argument("--count", type=_positive, default=8, help="the number of images (8)")
    parser.add_argument(
        "--seed", type=_not_negative, default=1000, help="the seed of the scenes (1000)"
    )
    parser.add_argument(
        "--size", type=_positive, default=256, help="image height and width in pixels (256)"
    )
    parser.add_argument(
        "--heads",
        type=int,
        nargs=2,
        default=(1, 5),
        metavar=("MIN", "MAX"),
        help="the number of heads in an image (1 5)",
    )
    parser.add_argument(
        "--head-heights",
        type=float,
        nargs=2,
        default=(0.1, 0.6),
        metavar=("MIN", "MAX"),
        help="head heights as fractions of the image size (0.1 0.6)",
    )
    parser.add_argument(
        "--turn",
        type=float,
        nargs=3,
        default=(75.0, 45.0, 30.0),
        metavar=("YAW", "PITCH", "ROLL"),
        help="maximum absolute angles of a head in degrees (75 45 30)",
    )
    parser.set_defaults(run=_export)


def _export(arguments: argparse.Namespace) -> int:
    try:
        source = _scenes(arguments)
    except ValueError as error:
        raise UserError(str(error)) from None
    declared = from_config(head_scenes.ATTRIBUTES)
    print(f"{arguments.output}: {export(source, arguments.output, declared)} images")
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
    parser.add_argument("--input", type=Path, required=True, help="the folder of images")
    parser.add_argument("--output", type=Path, required=True, help="the output folder")
    parser.add_argument("--faces", type=Path, help="a predictions.json with the detected faces")
    parser.add_argument(
        "--min-score",
        type=float,
        default=0.9,
        help="the minimum score of a detected face, from 0 to 1 (0.9)",
    )
    parser.add_argument("--seed", type=int, default=0, help="the seed of the masks (0)")
    parser.add_argument(
        "--share", type=float, default=1.0, help="the fraction of images to mask (1)"
    )
    parser.set_defaults(run=_mask_faces)


def _mask_faces(arguments: argparse.Namespace) -> int:
    if arguments.seed < 0 or not 0 <= arguments.share <= 1:
        raise UserError("--seed must be at least 0, and --share must be within 0 and 1")
    written = write_masked(
        arguments.input,
        arguments.output,
        arguments.seed,
        arguments.share,
        arguments.faces,
        arguments.min_score,
    )
    _print_faults(written.faults)
    print(f"{arguments.output}: {written.images} images, {len(written.faults)} left out")
    return 1 if written.faults else 0


def _add_face_csv(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--input", type=Path, required=True, help="the folder of chips")
    parser.add_argument("--output", type=Path, required=True, help="the table to write")
    parser.add_argument(
        "--side", type=_positive, default=48, help="image height and width in pixels (48)"
    )
    parser.set_defaults(run=_face_csv)


def _face_csv(arguments: argparse.Namespace) -> int:
    source = UTKFaceSource(arguments.input, ATTRIBUTES, on_error="skip")
    unread: list[str] = []
    count = write_face_csv(arguments.output, gray_faces(source, arguments.side, unread))
    left_out = [*source.skipped, *unread]
    _print_faults(left_out)
    print(f"{arguments.output}: {count} faces, {len(left_out)} left out")
    return 1 if left_out else 0


def _print_faults(faults: Sequence[str]) -> None:
    for line in summarize(faults):
        print(line, file=sys.stderr)


if __name__ == "__main__":
    commandline.run(main)
