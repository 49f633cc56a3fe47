"""Find things in pictures, and draw them.

    python predict.py --input photo.jpg --output out
    python predict.py --workdir runs/mtl_synthetic --input FOLDER MORE.png --output out

Writes OUT/predictions.json in COCO's results format and OUT/overlays/NAME.png.
"""

from collections.abc import Sequence
from pathlib import Path

from mtl_jax.commandline import Parser, find_run, run
from mtl_jax.huge_pages import restart_with_huge_pages


def main(argv: Sequence[str]) -> int:
    parser = Parser(__doc__)
    parser.add_argument("--workdir", help="the run's folder; by default the newest one under runs")
    parser.add_argument("--input", nargs="+", required=True, help="pictures and folders of them")
    parser.add_argument("--output", required=True, help="the folder to write")
    parser.add_argument("--step", default="best", help="best, latest or a number of steps")
    parser.add_argument("--threshold", type=float, help="least score written and drawn")
    args = parser.parse_args(argv)
    workdir = find_run(args.workdir)

    from mtl_jax.inference.files import predict_folder
    from mtl_jax.inference.predictor import Predictor

    predictor = Predictor.from_checkpoint(workdir, args.step, args.threshold)
    return predict_folder(predictor, args.input, Path(args.output))


if __name__ == "__main__":
    restart_with_huge_pages()
    run(main)
