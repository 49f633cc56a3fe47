"""Evaluate a trained model: COCO AP of boxes and masks, and the errors of all attributes.

    python evaluate.py
    python evaluate.py --workdir runs/mtl_synthetic --split test --step best
    python evaluate.py --workdir runs/prima_pose --data /data/other/prima_headpose

Prints a table of metrics and writes these files to RUN/evaluation/SPLIT (or RUN/evaluation/NAME):

    metrics.json       all metrics
    config.json        the config of the evaluation
    checkpoint.json    the split, and the step of the checkpoint
    predictions.json   the detections
    report/index.html  a report to open in a browser
    landmarks.json     landmark errors, if the model predicts landmarks
    model_card.md      errors by group of people, for data sets of people

`--config.FIELD=VALUE` changes a field of `config.data`, `config.eval` or `config.model.detection`.
"""

from collections.abc import Sequence

from mtl_jax.commandline import Parser, find_run
from mtl_jax.io.malloc import restart_with_kept_memory


def main(argv: Sequence[str], prog: str = "mtl-jax evaluate", restart: bool = False) -> int:
    """Run the command that the user calls `prog`. `restart`: as in `train`."""
    parser = Parser(__doc__, prog)
    parser.add_argument("--workdir", help="the run folder (default: the newest under runs)")
    parser.add_argument("--split", default="test", help="train, val or test (default: test)")
    parser.add_argument("--step", default="best", help="best, latest or a step (default: best)")
    parser.add_argument(
        "--data", default="", help="evaluate this folder, in the format of one of the sources"
    )
    parser.add_argument(
        "--name", default="", help="folder under evaluation (default: SPLIT or external)"
    )
    parser.add_argument(
        "--baseline", action="store_true", help="also print metrics of the best constant predictor"
    )
    parser.add_argument(
        "--trust",
        action="store_true",
        help="open the data of somebody else's run as your own: run the Python file, and read all "
        "files, that its config names",
    )
    args, overrides = parser.parse_with_overrides(argv)
    workdir = find_run(args.workdir)
    if restart:
        restart_with_kept_memory()

    from mtl_jax import experiment
    from mtl_jax.evals.table import format_table, without_boxes
    from mtl_jax.visualize.report.evaluation import write_report
    from mtl_jax.visualize.report.model_card import write_card

    found = experiment.evaluate(
        workdir,
        args.split,
        args.step,
        args.data,
        overrides,
        baseline=args.baseline,
        name=args.name,
        trust=args.trust,
    )
    shown = found.metrics if found.has_boxes else without_boxes(found.metrics)
    print(format_table(shown, found.trivial))
    page = write_report(
        f"{workdir}: {found.folder.name}",
        found.evaluator,
        found.analysis,
        found.metrics,
        found.folder / "report",
        channels=found.channels,
        history=workdir / "metrics.jsonl",
        has_boxes=found.has_boxes,
    )
    print(f"\nreport: {page}")
    if found.people:
        card = write_card(
            found.folder / "model_card.md",
            f"{workdir.resolve().name}, split {found.folder.name}",
            found.people,
            found.metrics,
            found.evaluator,
        )
        print(f"model card: {card}")
    return 0
