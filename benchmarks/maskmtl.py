"""MaskMTL's ablation on UTKFace's face chips: parameter sharing and loss balancing.

    python -m benchmarks.maskmtl --workdir runs/maskmtl_table
    python -m benchmarks.maskmtl --workdir runs/maskmtl_table --rows hard --worn masked --seeds 0 1
    python -m benchmarks.maskmtl --workdir runs/maskmtl_table --table

A row is a config with some of its fields changed. "masked" trains and tests on faces with masks,
"bare" on the same faces without. All rows except best use configs/maskmtl_nonlocal.py, with its
split and its dozen epochs with decay. Best is configs/maskmtl_best.py, with its own schedule and
FairFace. The last weights are evaluated, since the learning rate ends at 0; no checkpoint is
selected. The seed affects weights, order and masks, but not the faces of each split.

Rows that train on the same data with the same seed use the same batches, which are computed once.
Each row writes WORKDIR/ROW_WORN_SEED.json and is skipped if this file exists, so that several
processes can share the folder with different `--rows`, `--worn` or `--seeds`. Overrides are those
of `train.py`.
"""

import argparse
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import count, product
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from mtl_jax import experiment
from mtl_jax.config.options.training import LoopOptions
from mtl_jax.config.overrides import load_config_file, override
from mtl_jax.config.resolve import resolve
from mtl_jax.data.datasets.sources import Opened
from mtl_jax.io.atomic import write_json
from mtl_jax.io.malloc import restart_with_kept_memory
from mtl_jax.runs.setup import Setup
from mtl_jax.training.checkpoint import Checkpointer
from mtl_jax.types import Batch

CONFIGS = Path(__file__).parents[1] / "configs"
ONE_EXIT = {"model.exits": (), "model.convs.non_local": ()}
HIERARCHY = {"model.convs.non_local": ()}
ROWS: dict[str, Mapping[str, Any]] = {
    "single-task": {**ONE_EXIT, "model.sharing": "none"},  # three networks, trained together
    "hard": ONE_EXIT,
    "soft": {**ONE_EXIT, "model.sharing": "soft"},
    "cross-stitch": {**ONE_EXIT, "model.sharing": "cross_stitch"},
    "hierarchical": HIERARCHY,
    "non-local": {},
    **{
        f"hierarchical, {method}": {**HIERARCHY, "train.balance": method}
        for method in ("uncertainty", "gradnorm", "dwa", "pcgrad", "mgda", "pareto")
    },
    "best": {},
}
SEEDS = (0, 1, 2)
THRICE = ("hierarchical", "non-local", "best")  # run with each seed, the others with the first
SPLITS = "splits.json"
WORN = ("masked", "bare")
COLUMNS = {
    "gender/accuracy": ("gender", 3),
    "gender/macro_f1": ("F1", 3),
    "race/accuracy": ("race", 3),
    "race/macro_f1": ("F1", 3),
    "age/mae": ("age, years", 2),
    "age/cs5": ("CS@5", 3),
}


def main() -> None:
    options, overrides = _parse()
    if not options.table:
        tape = Tape()
        for worn, seed, row in product(options.worn, options.seeds or SEEDS, options.rows):
            selected = options.seeds or seed == 0 or row in THRICE
            if selected and not result_file(options.workdir, row, worn, seed).exists():
                measure(options.workdir, row, worn, seed, overrides, tape)
    print(table(options.workdir))


def _parse() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=Path, default=Path("runs/maskmtl_table"))
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=tuple(ROWS))
    parser.add_argument("--worn", nargs="+", choices=WORN, default=WORN)
    parser.add_argument(
        "--seeds", nargs="+", type=int, help=f"of every row (0; {', '.join(THRICE)} also 1, 2)"
    )
    parser.add_argument("--table", action="store_true", help="do not train, print existing results")
    return parser.parse_known_args()


def result_file(workdir: Path, row: str, worn: str, seed: int) -> Path:
    return workdir / f"{row.replace(', ', '_')}_{worn}_{seed}.json"


def row_config(row: str, worn: str, seed: int, overrides: Sequence[str] = ()) -> ConfigDict:
    """Return the config of a row."""
    name = "maskmtl_best.py" if row == "best" else "maskmtl_nonlocal.py"
    config = load_config_file(str(CONFIGS / name) + (":bare" if worn == "bare" else ""))
    config.update_from_flattened_dict(ROWS[row])
    config.train.seed = seed
    override(config, overrides)
    return config


class Tape:
    """Training batches; those of the most recently requested data are kept."""

    def __init__(self) -> None:
        self._of = ""
        self._made: list[Batch] = []
        self._next: Iterator[Batch] = iter(())

    def __call__(
        self, setup: Setup, training: Opened, loop: LoopOptions, start_step: int
    ) -> Iterator[Batch]:
        made_of = f"{json.dumps(setup.experiment.config['data'])} {loop.seed} {loop.batch_size}"
        if made_of != self._of:
            self._of, self._made = made_of, []
            self._next = experiment.train_batches(setup, training, loop, 0)
        for step in count(start_step):
            while step >= len(self._made):
                self._made.append(next(self._next))
            yield self._made[step]


def measure(
    workdir: Path, row: str, worn: str, seed: int, overrides: Sequence[str], tape: Tape
) -> None:
    """Train a row and write its metrics on the test split."""
    config, result = row_config(row, worn, seed, overrides), result_file(workdir, row, worn, seed)
    print(result.stem, flush=True)
    run, begun = result.with_suffix(""), time.monotonic()
    # Best has the others' split of UTKFace, but FairFace in addition. Its images, of more epochs
    # and in colour, require gigabytes, and no other row uses them.
    apart = row == "best"
    if not apart and (workdir / SPLITS).exists():
        run.mkdir(parents=True, exist_ok=True)
        shutil.copy(workdir / SPLITS, run)
    experiment.train(resolve(config), run, batches=None if apart else tape)
    metrics = experiment.evaluate(run, "test", "latest").metrics
    checkpointer = Checkpointer(run / "checkpoints")
    parameters = checkpointer.restore_variables("latest")["params"]
    named = {"row": row, "worn": worn, "seed": seed, "seconds": round(time.monotonic() - begun)}
    named["parameters"] = sum(x.size for x in jax.tree.leaves(parameters))
    write_json(result, named | {"val": checkpointer.metrics("latest"), "test": metrics})
    if not apart:
        shutil.copy(run / SPLITS, workdir)
    shutil.rmtree(run / "checkpoints")  # hundreds of megabytes


def table(workdir: Path) -> str:
    """Return all results as Markdown: mean and deviation over the seeds."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for path in sorted(workdir.glob("*_*.json")):
        result = json.loads(path.read_text())
        found.setdefault((result["row"], result["worn"]), []).append(result)
    heads = ("", "seeds", "parameters", "minutes", *(head for head, _ in COLUMNS.values()))
    lines = []
    for worn in WORN:
        rows = [row for row in ROWS if (row, worn) in found]
        lines += [_line((worn, *heads[1:])), _line(["---"] * len(heads))] if rows else []
        for row in rows:
            results = found[row, worn]
            numbers = [
                _mean([result["test"][name] for result in results], digits)
                for name, (_, digits) in COLUMNS.items()
            ]
            size = f"{results[0]['parameters'] / 1e6:.1f} M"
            minutes = f"{np.mean([result['seconds'] for result in results]) / 60:.0f}"
            lines.append(_line((row, str(len(results)), size, minutes, *numbers)))
        lines.append("")
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _mean(values: Sequence[float], digits: int) -> str:
    mean = f"{np.mean(values):.{digits}f}"
    return f"{mean} ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else mean


if __name__ == "__main__":
    restart_with_kept_memory()
    main()
