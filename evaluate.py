"""Evaluate a trained model: COCO AP of boxes and masks, and every attribute's errors.

    python evaluate.py
    python evaluate.py --workdir runs/mtl_synthetic --split test --step best
    python evaluate.py --workdir runs/prima_pose --data /data/other/prima_headpose

Prints a table and writes RUN/evaluation/SPLIT/metrics.json (or RUN/evaluation/NAME/), beside it the
config.json it was done with, predictions.json and, to open in a browser, report/index.html; of a
model with landmarks also landmarks.json, of one of people model_card.md, whom it errs for. Without
--workdir: the newest run. Fields of `config.data`, `config.eval` and `config.model.detection` may
be others than in training: `--config.FIELD=VALUE`.
"""

from collections.abc import Sequence

from mtl_jax.commandline import Parser, find_run, run
from mtl_jax.io.malloc import restart_with_kept_memory


def main(argv: Sequence[str]) -> int:
    parser = Parser(__doc__)
    parser.add_argument("--workdir", help="the run's folder; by default the newest one under runs")
    parser.add_argument("--split", default="test", help="train, val or test")
    parser.add_argument("--step", default="best", help="best, latest or a number of steps")
    parser.add_argument(
        "--data", default="", help="a folder, laid out as one of the config's sources: all of it"
    )
    parser.add_argument("--name", default="", help="of the folder below evaluation; the split's")
    parser.add_argument(
        "--baseline", action="store_true", help="beside each error, that of the best constant"
    )
    args, overrides = parser.parse_with_overrides(argv)
    workdir = find_run(args.workdir)
    if __name__ == "__main__":
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
    )
    shown = found.metrics if found.has_boxes else without_boxes(found.metrics)
    print(format_table(shown, found.trivial))
    page = write_report(
        f"{workdir}: {found.folder.name}",
        found.evaluator,
        found.evidence,
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


if __name__ == "__main__":
    run(main)
