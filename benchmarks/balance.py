"""Measure the step time of each loss balancing method, relative to fixed weights.

    python -m benchmarks.balance --config configs/maskmtl_utkface.py --batch-size 32

Batches are noise with random labels, since the time does not depend on their content. The methods
alternate every few steps, so that other load on the machine affects all of them equally.

Measured with the command above on two busy cores, for three tasks: uncertainty 1.03, dwa 1.07,
gradnorm 2.09, pareto 2.26, mgda 2.29, pcgrad 2.38 times the step time with fixed weights.
"""

import argparse
import json
import time
from pathlib import Path

import jax
import numpy as np

from mtl_jax.config.options.training import METHODS, LoopOptions, OptimizerOptions
from mtl_jax.config.overrides import load_config_file
from mtl_jax.config.resolve import resolve
from mtl_jax.data.loader import transforms
from mtl_jax.data.records import Category
from mtl_jax.images.resize import resize_geometry
from mtl_jax.runs.initial import initial_variables
from mtl_jax.runs.setup import Setup
from mtl_jax.training.gradient_balancing import make_balancing
from mtl_jax.training.optimizer import learning_rate_schedule, make_optimizer
from mtl_jax.training.sharding import make_mesh, replicated_key, shard_batch
from mtl_jax.training.stages import trainable
from mtl_jax.training.state import start_stage
from mtl_jax.training.step import make_train_step
from mtl_jax.types import AttributeLabels, Batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="configs/maskmtl_utkface.py")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--steps", type=int, default=3, help="per turn")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    options = parser.parse_args()
    config = load_config_file(options.config)
    setup = Setup.build(resolve(config), [Category(1, "face")])
    batch, seconds = make_batch(setup, options.batch_size), {}
    runners = {method: make_runner(setup, method, batch) for method in METHODS}
    for _ in range(options.turns):
        for method, run in runners.items():
            seconds.setdefault(method, []).append(run(options.steps) / options.steps)
    median = {method: float(np.median(each)) for method, each in seconds.items()}
    print(f"{jax.devices()[0].device_kind}, batch {options.batch_size}, {options.config}")
    for method, each in median.items():
        print(f"{method:<12} {1000 * each:8.1f} ms/step   {each / median['fixed']:5.2f} x fixed")
    if options.output:
        options.output.write_text(json.dumps(median, indent=1) + "\n")


def make_batch(setup: Setup, rows: int) -> Batch:
    """Return images of noise, each with one object and random labels."""
    rng = np.random.default_rng(0)
    size, _ = resize_geometry(512, 512, setup.experiment.data.resize)
    row = transforms.empty_row(size, setup.attributes, setup.experiment.data)
    batch = jax.tree.map(lambda x: np.repeat(np.asarray(x)[None], rows, 0), row)
    labels = {}
    for a in setup.attributes:
        shape = batch.gt.attributes[a.name].values.shape
        values = rng.integers(0, a.prediction_size, shape) if a.kind == "categorical" else 30
        labels[a.name] = AttributeLabels(np.full(shape, values, np.float32), np.ones(shape, bool))
    valid = np.zeros(batch.gt.valid.shape, bool)
    valid[:, 0] = True
    boxes = np.zeros(batch.gt.boxes.shape, np.float32)
    boxes[:, 0] = 0, 0, size[1], size[0]
    gt = batch.gt._replace(valid=valid, boxes=boxes, attributes=labels, classes=valid.astype("i4"))
    noise = rng.integers(0, 256, batch.images.shape, np.uint8).astype(batch.images.dtype)
    index = np.arange(rows, dtype=np.int32)
    return batch._replace(images=noise, valid=np.ones(rows, bool), index=index, gt=gt)


def make_runner(setup: Setup, method: str, batch: Batch):
    """Compile a training step; return a function that runs a number of steps and returns their
    seconds. Each step starts from a batch on the host.
    """
    mesh, options = make_mesh(), OptimizerOptions(name="adamw", warmup_steps=0)
    variables = initial_variables(setup, 0)
    balancing = make_balancing(method, LoopOptions().balancing, setup.model, variables)
    schedule = learning_rate_schedule(options, 100, options.learning_rate)
    optimizer, mask = make_optimizer(options, schedule), trainable(variables["params"], "all")
    step = make_train_step(setup.model, optimizer, mask, schedule, mesh, balancing=balancing)
    start = None if balancing is None else balancing.balance.init()
    state = start_stage(variables, optimizer, mask, mesh, balance=start)
    key = replicated_key(0, mesh)
    state, _ = step(state, shard_batch(batch, mesh), key)

    def run(steps: int) -> float:
        nonlocal state
        begun = time.perf_counter()
        for _ in range(steps):
            state, _ = step(state, shard_batch(batch, mesh), key)
        jax.block_until_ready(state)
        return time.perf_counter() - begun

    return run


if __name__ == "__main__":
    main()
