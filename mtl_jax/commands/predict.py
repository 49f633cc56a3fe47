"""Detect objects in images and videos, and draw them.

    python predict.py --model maskrcnn_resnet50_fpn_v2 --input photo.jpg --output out
    python predict.py --workdir runs/mtl_synthetic --input FOLDER MORE.png --output out
    python predict.py --workdir runs/hyperface_synthetic --proposals runs/mtl_synthetic \\
        --input photo.jpg --output out
    python predict.py --input 'holidays/**/*.jpg' film.mp4 --classes person dog --style splash \\
        --csv --crops --output out

`--model` is the name of public weights, which are downloaded on first use, the address of a packed
model (https://..., hf://OWNER/REPO/FILE), a packed model or a run folder. Without it, `--workdir`
or else the newest run under runs predicts.

Writes OUT/predictions.json in COCO's results format and OUT/overlays/photo.jpg.png. The overlay of
a video is OUT/overlays/film.mp4, with the frame rate and the size of the video (.avi if its width
or height is odd). At the end, the time of each step is printed.

While it runs, OUT/predictions.jsonl contains the detections so far, one entry per line. If it was
interrupted, the same command with `--resume` continues. `--config.FIELD=VALUE` changes a field of
`config.data`, `config.eval` or `config.model.detection`.

Styles:

    overlay  masks, boxes and labels
    boxes    boxes and labels
    masks    masks in the colours of their classes, on black
    splash   everything but the detected objects in gray
    panels   three images side by side: boxes; masks on black; 0.6 masks blended with 0.4 image
"""

from collections.abc import Sequence
from pathlib import Path

from mtl_jax.commandline import Parser, choose_model
from mtl_jax.io.malloc import restart_with_kept_memory


def main(argv: Sequence[str], prog: str = "mtl-jax predict", restart: bool = False) -> int:
    """Run the command that the user calls `prog`. `restart`: as in `train`."""
    if restart:
        restart_with_kept_memory()  # before anything large is imported

    from mtl_jax.visualize.drawing.styles import STYLES
    from mtl_jax.visualize.drawing.window import require_display

    parser = Parser(__doc__, prog)
    parser.add_argument("--model", help="name of public weights, address, file or run folder")
    parser.add_argument(
        "--sha256", metavar="DIGEST", help="SHA-256 of the file of --model, to check it"
    )
    parser.add_argument(
        "--workdir", help="the run folder or a packed model (default: the newest run)"
    )
    parser.add_argument(
        "--input",
        nargs="+",
        action="extend",
        required=True,
        help="images, videos, folders, or patterns in quotes",
    )
    parser.add_argument("--output", required=True, help="the output folder")
    parser.add_argument("--step", default="best", help="best, latest or a step (default: best)")
    parser.add_argument(
        "--threshold",
        type=float,
        help="minimum score of written and drawn detections; not below "
        "config.model.detection.score_threshold",
    )
    parser.add_argument("--flip", action="store_true", help="also predict on mirrored images")
    parser.add_argument(
        "--scales",
        nargs="+",
        action="extend",
        type=float,
        metavar="S",
        help="predict at these multiples of the image size, such as .8 1 1.25",
    )
    parser.add_argument(
        "--proposals",
        metavar="KIND",
        help="proposals of a hyperface model: windows; fast or quality (selective search); or the "
        "RUN of a mask_rcnn model, whose RPN is used",
    )
    parser.add_argument(
        "--classes", nargs="+", action="extend", metavar="NAME", help="keep only these classes"
    )
    parser.add_argument(
        "--style", default="overlay", choices=STYLES, help="drawing style (default: overlay)"
    )
    parser.add_argument("--csv", action="store_true", help="also write OUT/predictions.csv")
    parser.add_argument(
        "--crops", action="store_true", help="also write drawn detections to OUT/crops"
    )
    parser.add_argument("--resume", action="store_true", help="continue an interrupted run")
    parser.add_argument("--show", action="store_true", help="also show a window; press q to stop")
    args, overrides = parser.parse_with_overrides(argv)
    if args.show:
        require_display()
    model = choose_model(args.model, args.workdir, args.sha256)

    from mtl_jax.config.options.hyperface import proposal_overrides
    from mtl_jax.inference.files import OutputOptions, predict_folder
    from mtl_jax.inference.predictor import Predictor

    overrides += ["--config.eval.flip=True"] * args.flip
    overrides += [f"--config.eval.scales={tuple(args.scales)}"] if args.scales else []
    overrides += proposal_overrides(args.proposals) if args.proposals else []
    predictor = Predictor.from_checkpoint(model, args.step, args.threshold, args.classes, overrides)
    options = OutputOptions(args.style, args.csv, args.crops, args.show, args.resume)
    return predict_folder(predictor, args.input, Path(args.output), options)
