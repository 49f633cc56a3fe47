"""Compare fine-tuning on a small data set with torchvision.

    python train.py --config configs/balloon.py:pretrain --workdir runs/pretrain
    python -m benchmarks.finetune --config configs/balloon.py --checkpoint runs/pretrain \\
        --workdir runs/finetune

Both libraries start from the same weights, including the newly initialised heads: the initial
weights of `train.py`, converted to torchvision. They train on the same batches (this library's
pipeline) for the same number of steps with the same optimizer. The last state is evaluated by the
same code on all images that were not trained on: val and test, since val is not used for selection.
The libraries differ in the network's arithmetic, sampling, losses and suppression; regions and
masks are computed as in torchvision (`roi.aligned` and `mask_head.exact` are False). Each start
(random weights, and `--checkpoint`) is run with each of `--seeds`.

Writes WORKDIR/finetune.json after every run, resumes from it, and prints a table.
"""

import argparse
import json
import multiprocessing
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from mtl_jax.config.fields import config_from_json
from mtl_jax.config.overrides import load_config_file, override
from mtl_jax.io.atomic import write_json
from mtl_jax.io.malloc import restart_with_kept_memory
from mtl_jax.types import Detections, Inputs

LIBRARIES = ("mtl_jax", "torchvision")
UNSEEN = ("val", "test")
METRICS = ("box/AP50", "mask/AP50")


def main() -> None:
    options, overrides = _parse()
    report = options.workdir / "finetune.json"
    measured = json.loads(report.read_text()) if report.exists() else {}
    starts = {"random": "", **({"pretrained": options.checkpoint} if options.checkpoint else {})}
    for start, seed, library in product(starts, options.seeds, LIBRARIES):
        name = f"{start}_{library}_{seed}"
        if name not in measured:
            config = load_config_file(options.config)
            override(config, overrides)
            config.model.roi.aligned = config.model.mask_head.exact = False
            config.init.checkpoint = starts[start]
            config.train.seed = seed
            metrics = _in_process(library, config, options.workdir / name)
            measured[name] = {metric: metrics[metric] for metric in METRICS}
            write_json(report, measured)
        print(name, *(f"{metric} {measured[name][metric]:.3f}" for metric in METRICS))
    print_table(measured, list(starts), options.seeds)


def _parse() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True)
    parser.add_argument("--checkpoint", default="", help="also start from this run")
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    return parser.parse_known_args()


def _in_process(library: str, config: ConfigDict, workdir: Path) -> dict[str, float]:
    """Run in a separate process: the libraries' threads would block each other."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_ours if library == "mtl_jax" else _theirs, (config.to_json(), workdir))


def _ours(config: str, workdir: Path) -> dict[str, float]:
    from mtl_jax import experiment
    from mtl_jax.config.resolve import resolve
    from mtl_jax.runs.loading import load_run

    experiment.train(resolve(config_from_json(config)), workdir)
    return _measure(load_run(workdir, "latest").predict, config_from_json(config), workdir)


def _theirs(config: str, workdir: Path) -> dict[str, float]:
    from benchmarks.finetune_torchvision import finetune, predict

    model = finetune(config_from_json(config), workdir)
    return _measure(partial(predict, model), config_from_json(config), workdir)


def _measure(
    predict: Callable[[Inputs], Detections], config: ConfigDict, workdir: Path
) -> dict[str, float]:
    """Return the metrics on the images that WORKDIR/splits.json excludes from training."""
    from mtl_jax.config.resolve import resolve
    from mtl_jax.data.datasets.sources import open_sources
    from mtl_jax.evals.accumulate import Evaluator
    from mtl_jax.runs.detection import detect
    from mtl_jax.runs.setup import Setup

    resolved = resolve(config)
    opened = open_sources(resolved.sources, (), workdir / "splits.json", wanted=UNSEEN)
    setup = Setup.build(resolved, opened[UNSEEN[0]].categories)
    unseen = [source for split in UNSEEN for source in opened[split].sources]
    evaluator = Evaluator(setup.categories)
    for record, result in detect(predict, unseen, setup):
        evaluator.add(record, result)
    return evaluator.metrics()


def print_table(
    measured: dict[str, dict[str, float]], starts: Sequence[str], seeds: Sequence[int]
) -> None:
    """Print mean and deviation over the seeds, and the difference in pooled deviations (n/a for
    one seed).
    """
    ddof = int(len(seeds) > 1)
    print(f"{'':24}" + "".join(f"{library:>20}" for library in LIBRARIES) + f"{'difference':>20}")
    for start, metric in product(starts, METRICS):
        values = [
            np.array([measured[f"{start}_{library}_{seed}"][metric] for seed in seeds])
            for library in LIBRARIES
        ]
        shown = "".join(f"{v.mean():>12.3f} ± {v.std(ddof=ddof):.3f}" for v in values)
        pooled = np.sqrt(np.mean([v.var(ddof=ddof) for v in values]))
        difference = values[0].mean() - values[1].mean()
        compared = f"{difference / pooled:+.1f} dev" if pooled else "n/a"
        print(f"{start + ' ' + metric:24}{shown}{compared:>20}")


if __name__ == "__main__":
    restart_with_kept_memory()
    main()
