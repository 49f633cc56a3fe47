"""MaskMTL's network and recipe beside the same in Keras, which the original is written in.

    python -m benchmarks.maskmtl_keras speed
    python -m benchmarks.maskmtl_keras faces --workdir runs/maskmtl_keras
    KERAS_BACKEND=jax python -m benchmarks.maskmtl_keras faces --libraries keras --seeds 0

Keras comes with TensorFlow; on a GPU its backend must be one that is built for it.

speed prints training pictures a second, of the batch and the network of configs/maskmtl_utkface.py,
arrays on the host to updated weights; and the processor time of all threads, the fair comparison
where a machine's cores are shared. Each library runs in a process of its own and they take turns,
so that what else the machine does meets both; numbers are of the medians.

faces trains both on the faces of that config's split train with each of `--seeds`, and prints what
gender, race and age are on the split val as the mean of the last five epochs: single epochs of this
recipe are far apart. Keras shuffles and trains by its own `fit`. Each run writes
WORKDIR/LIBRARY_SEED.json and is not done again where that is there.
"""

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import cast

import numpy as np
from ml_collections import ConfigDict

from mtl_jax.config.fields import config_from_json
from mtl_jax.config.overrides import load_config_file, override
from mtl_jax.config.resolve import resolve
from mtl_jax.data.datasets import sources
from mtl_jax.data.loader import transforms
from mtl_jax.io.atomic import write_json
from mtl_jax.io.malloc import restart_with_kept_memory
from mtl_jax.runs.setup import Setup

CONFIG = str(Path(__file__).parents[1] / "configs/maskmtl_utkface.py")
LIBRARIES = ("mtl_jax", "keras")
LAST = 5  # epochs
METRICS = ("gender/accuracy", "race/accuracy", "age/mae")
LOSSES = {"age": "mse", "gender": "binary_crossentropy", "race": "categorical_crossentropy"}


def main() -> None:
    options, overrides = _parse()
    config = load_config_file(CONFIG)
    override(config, overrides)
    (speed if options.measure == "speed" else faces)(options, config)


def _parse() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("measure", choices=("speed", "faces"))
    parser.add_argument("--libraries", nargs="+", choices=LIBRARIES, default=LIBRARIES)
    parser.add_argument("--turns", type=int, default=6, help="speed: of each library")
    parser.add_argument("--steps", type=int, default=10, help="speed: of a turn")
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2), help="faces")
    parser.add_argument("--workdir", type=Path, default=Path("runs/maskmtl_keras"))
    return parser.parse_known_args()


def speed(options: argparse.Namespace, config: ConfigDict) -> None:
    """Time training steps, the libraries taking turns."""
    context = multiprocessing.get_context("spawn")  # a fork would carry used thread pools along
    pipes: dict[str, Connection] = {}
    for library in options.libraries:
        pipes[library], there = context.Pipe()
        arguments = (library, config.to_json(), there)
        context.Process(target=_serve, args=arguments, daemon=True).start()
        there.close()  # else the wait for a process that died has no end
        pipes[library].recv()
    seconds: dict[str, list[tuple[float, float]]] = {library: [] for library in pipes}
    for _, library in product(range(options.turns), pipes):
        pipes[library].send(options.steps)
        seconds[library].append(pipes[library].recv())
    for pipe in pipes.values():
        pipe.send(0)
    medians = {library: np.median(s, 0) / options.steps for library, s in seconds.items()}
    for library, (wall, processor) in medians.items():
        rate = config.train.batch_size / wall
        print(f"{library:<10}{rate:8.0f} pictures a second, {1000 * processor:.0f} ms of processor")
    if len(medians) == len(LIBRARIES):
        ratio = medians["keras"] / medians["mtl_jax"]
        print(f"Keras takes {ratio[0]:.2f} times as long, and {ratio[1]:.2f} the processor time")
    options.workdir.mkdir(parents=True, exist_ok=True)
    write_json(options.workdir / "speed.json", seconds)


def _serve(library: str, config: str, pipe: Connection) -> None:
    """Answer each number of steps with the seconds, and processor seconds, that they take."""
    run = (_our_steps if library == "mtl_jax" else _keras_steps)(config_from_json(config))
    run(2)
    pipe.send("ready")
    while steps := pipe.recv():
        begun = time.process_time()
        wall = run(steps)
        pipe.send((wall, time.process_time() - begun))


def _our_steps(config: ConfigDict) -> Callable[[int], float]:
    from benchmarks.balance import make_batch, make_runner
    from mtl_jax.data.records import Category

    setup = Setup.build(resolve(config), [Category(1, "face")])
    return make_runner(setup, "fixed", make_batch(setup, config.train.batch_size))


def _keras_steps(config: ConfigDict) -> Callable[[int], float]:
    rng, network = np.random.default_rng(0), _compiled(config, 0)

    def run(steps: int) -> float:
        rows = steps * config.train.batch_size
        pictures = rng.random((rows, 48, 48, 1), np.float32)
        labels = {
            "age": rng.uniform(1, 90, (rows, 1)),
            "gender": rng.integers(0, 2, (rows, 1)),
            "race": np.eye(5)[rng.integers(0, 5, rows)],
        }
        begun = time.perf_counter()
        network.fit(pictures, labels, batch_size=config.train.batch_size, verbose=0)
        return time.perf_counter() - begun

    return run


def _compiled(config: ConfigDict, seed: int):
    """Give the network in Keras, compiled as the original is."""
    if os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
        sys.modules.setdefault("tensorflow", cast(ModuleType, None))  # not there, else Keras looks
    import keras

    from benchmarks import keras_mask_mtl

    keras.utils.set_random_seed(seed)
    hidden = config.model.head.features[0]
    network = keras_mask_mtl.build(config.model.convs.features, hidden, config.model.head.dropout)
    metrics = {"age": "mae", "gender": "accuracy", "race": "accuracy"}
    network.compile(keras.optimizers.Adam(config.optimizer.learning_rate), LOSSES, metrics=metrics)
    return network


def faces(options: argparse.Namespace, config: ConfigDict) -> None:
    """Train on the same faces, and print the means of the last epochs."""
    for library, seed in product(options.libraries, options.seeds):
        result = options.workdir / f"{library}_{seed}.json"
        if not result.exists():
            config.train.seed = seed
            train = train_ours if library == "mtl_jax" else train_keras
            options.workdir.mkdir(parents=True, exist_ok=True)
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                done = process.submit(train, config.to_json(), options.workdir)
                write_json(result, done.result())
    print(table(options.workdir))


Epochs = dict[str, list[float]]  # the metrics of METRICS on the split val after each epoch


def train_ours(config: str, workdir: Path) -> Epochs:
    from mtl_jax import experiment

    read = config_from_json(config)
    run = workdir / f"run_{read.train.seed}"
    experiment.train(read, run)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {m: [line[f"val/{m}"] for line in lines if f"val/{m}" in line] for m in METRICS}


def train_keras(config: str, workdir: Path) -> Epochs:
    del workdir
    read = config_from_json(config)
    network = _compiled(read, read.train.seed)
    epochs = read.stages[0]["steps"] // read.train.eval_every
    training, validation = (read_faces(read, split) for split in ("train", "val"))
    history = network.fit(
        *training,
        batch_size=read.train.batch_size,
        epochs=epochs,
        validation_data=validation,
        verbose=0,
    ).history
    return {m: history[f"val_{m.replace('/', '_')}"] for m in METRICS}


def read_faces(config: ConfigDict, split: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Give the pictures of a split `[N, 48, 48, 1]` in 0..1, and their labels as Keras wants
    them.
    """
    told = resolve(config)
    attributes = told.attributes
    source = sources.open_split(told.sources, attributes, split).sources[0]
    rows = [transforms.load(source[i], i, attributes, told.data) for i in range(len(source))]
    values = {a.name: np.stack([row.gt.attributes[a.name].values[0] for row in rows])
              for a in attributes}  # fmt: skip
    pictures = np.stack([row.images for row in rows]).astype(np.float32) / 255
    race = np.eye(5, dtype=np.float32)[values["race"][:, 0].astype(int)]
    return pictures, {"age": values["age"][:, :1], "gender": values["gender"], "race": race}


def table(workdir: Path) -> str:
    """Give what the runs so far end with, and the deviation between seeds."""
    lines = [f"{'':10}{'seeds':>6}" + "".join(f"{name:>20}" for name in METRICS)]
    for library in LIBRARIES:
        runs = [json.loads(path.read_text()) for path in sorted(workdir.glob(f"{library}_*.json"))]
        ends = {m: [float(np.mean(run[m][-LAST:])) for run in runs] for m in METRICS}
        shown = [f"{np.mean(e):.3f} ± {np.std(e, ddof=len(e) > 1):.3f}" for e in ends.values() if e]
        lines.append(f"{library:10}{len(runs):>6}" + "".join(f"{each:>20}" for each in shown))
    return "\n".join(lines)


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    restart_with_kept_memory()
    main()
