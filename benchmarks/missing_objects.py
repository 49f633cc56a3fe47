"""Measure what objects that are not taught cost, and how images without their labels are used.

    python -m benchmarks.missing_objects --workdir runs/missing_objects

Trains a small Mask R-CNN on 200 drawn images of squares, circles and triangles, and prints AP50 of
the boxes on 200 other images, mean and deviation over the seeds. The ways differ in the training
labels alone:

    complete        every object is taught
    one, ignored    one object of each image is taught (`max_instances=1`); the others are ignored
                    regions, as by default
    one, background the same; the others are background
    class, ignored  each image has labels of one class only; the other classes are left out of its
                    class loss, and it gives no negatives to the RPN, as by default
    class, RPN      the same, but it gives negatives to the RPN
    class, absent   the same; the other classes are taught as absent

Writes WORKDIR/metrics.json after every run, and resumes from it.
"""

import argparse
import json
import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from ml_collections import ConfigDict

from mtl_jax.config.defaults import get_small
from mtl_jax.config.resolve import resolve
from mtl_jax.io.atomic import write_json
from mtl_jax.types import Batch

CLASSES = ("square", "circle", "triangle")
METRIC = "box/AP50"


def as_background(batch: Batch) -> Batch:
    return batch._replace(gt=batch.gt._replace(ignored=np.zeros_like(batch.gt.ignored)))


def as_absent(batch: Batch) -> Batch:
    return batch._replace(labelled=None)


Change = Callable[[Batch], Batch]
# objects of each image that are taught, whether by class, change of the batches, RPN's negatives
WAYS: dict[str, tuple[int, bool, Change | None, bool]] = {
    "complete": (4, False, None, False),
    "one, ignored": (1, False, None, False),
    "one, background": (1, False, as_background, False),
    "class, ignored": (4, True, None, False),
    "class, RPN": (4, True, None, True),
    "class, absent": (4, True, as_absent, False),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=400)
    options = parser.parse_args()
    report = options.workdir / "metrics.json"
    measured = json.loads(report.read_text()) if report.exists() else {}
    for seed, way in product(options.seeds, WAYS):
        name = f"{way.replace(', ', '_')}_{seed}"
        if name not in measured:
            # In a separate process, whose patch and memory end with it.
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                arguments = (way, seed, options.steps, options.workdir / name)
                measured[name] = pool.apply(train_and_evaluate, arguments)
            write_json(report, measured)
    for way in WAYS:
        each = [measured[f"{way.replace(', ', '_')}_{seed}"] for seed in options.seeds]
        print(f"{way:16} {np.mean(each):.3f} ± {np.std(each, ddof=len(each) > 1):.3f}")


def train_and_evaluate(way: str, seed: int, steps: int, workdir: Path) -> float:
    """Train one way from `seed`; return AP50 of the last weights."""
    from mtl_jax import experiment
    from mtl_jax.models.mask_rcnn import network
    from mtl_jax.runs.batches import train_batches

    slots, by_class, change, negatives = WAYS[way]
    anchors = patch.object(
        network, "sample_batch_anchors", partial(with_negatives, network.sample_batch_anchors)
    )

    def batches(*args: Any) -> Iterator[Batch]:
        made = train_batches(*args)
        return map(change, made) if change else made

    with anchors if negatives else nullcontext():
        config = get_config(slots, by_class, steps, seed)
        experiment.train(resolve(config), workdir, batches=batches)
    return experiment.evaluate(workdir, "test", "latest").metrics[METRIC]


def with_negatives(sample: Callable[..., Any], keys, anchors, gt, complete, options) -> Any:
    """Sample anchors as if all objects of every image were labelled."""
    return sample(keys, anchors, gt, np.ones(complete.shape, bool), options)


def get_config(slots: int, by_class: bool, steps: int, seed: int) -> ConfigDict:
    config = get_small(side=128)
    each = 200 // len(CLASSES)
    training = (
        dict(
            format="shapes",
            name=name,
            split="train",
            length=each,
            seed=10 + i,
            **({"categories": (name,)} if by_class else {}),
        )
        for i, name in enumerate(CLASSES)
    )
    config.data.sources = (
        *training,
        dict(format="shapes", name="test", split="test", length=200, seed=1),
    )
    config.data.max_instances = slots
    config.stages = (dict(layers="all", steps=steps, learning_rate=0.0),)
    config.train.update(seed=seed, eval_every=0, checkpoint_every=steps)
    return config


if __name__ == "__main__":
    main()
