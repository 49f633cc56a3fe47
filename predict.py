"""Find things in pictures and videos, and draw them.

    python predict.py --input photo.jpg --output out
    python predict.py --workdir runs/mtl_synthetic --input FOLDER MORE.png --output out
    python predict.py --workdir runs/hyperface_synthetic --proposals runs/mtl_synthetic \\
        --input photo.jpg --output out
    python predict.py --input 'holidays/**/*.jpg' film.mp4 --classes person dog --style splash \\
        --csv --crops --output out

Writes OUT/predictions.json in COCO's results format and OUT/overlays/photo.jpg.png, of a video
film.mp4 with its frame rate and size (.avi where its width or height is odd); then prints where the
time went. While it runs, OUT/predictions.jsonl has what was found, an entry a line; where it was
stopped, the same call with `--resume` goes on from there. `--config.FIELD=VALUE` changes a field of
`config.eval` or `config.model.detection`. The styles: overlay has masks, boxes and labels; boxes no
masks; masks are filled in their classes' colours on black; splash turns gray what was not found;
panels puts boxes, masks on black, and 0.6 of the masks with 0.4 of the picture side by side into
one file, three times as wide.
"""

from collections.abc import Sequence
from pathlib import Path

from mtl_jax.commandline import Parser, find_run, run
from mtl_jax.io.malloc import restart_with_kept_memory
from mtl_jax.visualize.drawing.styles import STYLES
from mtl_jax.visualize.drawing.window import require_display


def main(argv: Sequence[str]) -> int:
    parser = Parser(__doc__)
    parser.add_argument("--workdir", help="the run's folder, or a packed model; the newest run")
    parser.add_argument(
        "--input",
        nargs="+",
        action="extend",
        required=True,
        help="pictures, videos, folders of them, patterns in quotes",
    )
    parser.add_argument("--output", required=True, help="the folder to write")
    parser.add_argument("--step", default="best", help="best, latest or a number of steps")
    parser.add_argument(
        "--threshold",
        type=float,
        help="least score written and drawn, from config.model.detection.score_threshold on",
    )
    parser.add_argument("--flip", action="store_true", help="look at each picture mirrored too")
    parser.add_argument(
        "--scales",
        nargs="+",
        action="extend",
        type=float,
        metavar="S",
        help="look at sizes S times the run's, as .8 1 1.25",
    )
    parser.add_argument(
        "--proposals",
        metavar="KIND",
        help="where a hyperface looks: windows; fast or quality, selective search; or a RUN of a "
        "mask_rcnn, by its RPN",
    )
    parser.add_argument(
        "--classes", nargs="+", action="extend", metavar="NAME", help="keep only these"
    )
    parser.add_argument("--style", default="overlay", choices=STYLES, help="how it is drawn")
    parser.add_argument("--csv", action="store_true", help="write OUT/predictions.csv too")
    parser.add_argument("--crops", action="store_true", help="write what is drawn to OUT/crops too")
    parser.add_argument("--resume", action="store_true", help="go on where a call before stopped")
    parser.add_argument("--show", action="store_true", help="in a window too; q ends it")
    args, overrides = parser.parse_with_overrides(argv)
    if args.show:
        require_display()
    workdir = find_run(args.workdir, packed=True)
    if __name__ == "__main__":
        restart_with_kept_memory()

    from mtl_jax.config.options.hyperface import proposal_overrides
    from mtl_jax.inference.files import OutputOptions, predict_folder
    from mtl_jax.inference.predictor import Predictor

    overrides += ["--config.eval.flip=True"] * args.flip
    overrides += [f"--config.eval.scales={tuple(args.scales)}"] if args.scales else []
    overrides += proposal_overrides(args.proposals) if args.proposals else []
    predictor = Predictor.from_checkpoint(
        workdir, args.step, args.threshold, args.classes, overrides
    )
    options = OutputOptions(args.style, args.csv, args.crops, args.show, args.resume)
    return predict_folder(predictor, args.input, Path(args.output), options)


if __name__ == "__main__":
    run(main)
