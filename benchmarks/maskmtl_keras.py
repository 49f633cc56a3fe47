"""Compare MaskMTL's network and recipe with the same in Keras, which the original uses.

    python -m benchmarks.maskmtl_keras speed
    python -m benchmarks.maskmtl_keras faces --workdir runs/maskmtl_keras
    KERAS_BACKEND=jax python -m benchmarks.maskmtl_keras faces --libraries keras --seeds 0

Keras is installed with TensorFlow. On a GPU, select a backend that supports it.

speed prints training images per second, from arrays on the host to updated weights, for the batch
size and the network of configs/maskmtl_utkface.py. It also prints the processor time of all
threads, which is comparable even if the cores are shared with other programs. Each library runs in
its own process and they alternate, so that other load on the machine affects both. Medians are
printed.

faces trains both on the training split of that config with each of `--seeds`. It prints the metrics
of gender, race and age on the validation split, averaged over the last five epochs, because single
epochs of this recipe vary widely. Keras shuffles and trains with its own `fit`. Each run writes
WORKDIR/LIBRARY_SEED.json and is skipped if this file exists.
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
from typing import Any, cast

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
    parser.add_argument("--turns", type=int, default=6, help="speed: turns of each library")
    parser.add_argument("--steps", type=int, default=10, help="speed: steps per turn")
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2), help="faces: seeds")
    parser.add_argument("--workdir", type=Path, default=Path("runs/maskmtl_keras"))
    return parser.parse_known_args()


def speed(options: argparse.Namespace, config: ConfigDict) -> None:
    """Time training steps of the libraries in turn."""
    context = multiprocessing.get_context("spawn")  # a fork would inherit thread pools in use
    pipes: dict[str, Connection] = {}
    for library in options.libraries:
        pipes[library], there = context.Pipe()
        arguments = (library, config.to_json(), there)
        context.Process(target=_serve, args=arguments, daemon=True).start()
        there.close()  # otherwise `recv` would wait forever for a process that died
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
        print(f"{library:<10}{rate:8.0f} images per second, {1000 * processor:.0f} ms of processor")
    if len(medians) == len(LIBRARIES):
        ratio = medians["keras"] / medians["mtl_jax"]
        print(f"Keras takes {ratio[0]:.2f} times as long, and {ratio[1]:.2f} the processor time")
    options.workdir.mkdir(parents=True, exist_ok=True)
    write_json(options.workdir / "speed.json", seconds)


def _serve(library: str, config: str, pipe: Connection) -> None:
    """Answer each number of steps with their seconds and processor seconds, until 0."""
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
        images = rng.random((rows, 48, 48, 1), np.float32)
        labels = {
            "age": rng.uniform(1, 90, (rows, 1)),
            "gender": rng.integers(0, 2, (rows, 1)),
            "race": np.eye(5)[rng.integers(0, 5, rows)],
        }
        begun = time.perf_counter()
        network.fit(images, labels, batch_size=config.train.batch_size, verbose=0)
        return time.perf_counter() - begun

    return run


def _compiled(config: ConfigDict, seed: int) -> Any:
    """Return the network in Keras, compiled as the original."""
    if os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
        sys.modules.setdefault("tensorflow", cast(ModuleType, None))  # not to be imported by Keras
    import keras

    from benchmarks import keras_mask_mtl

    keras.utils.set_random_seed(seed)
    hidden = config.model.head.features[0]
    network = keras_mask_mtl.build(config.model.convs.features, hidden, config.model.head.dropout)
    metrics = {"age": "mae", "gender": "accuracy", "race": "accuracy"}
    network.compile(keras.optimizers.Adam(config.optimizer.learning_rate), LOSSES, metrics=metrics)
    return network


def faces(options: argparse.Namespace, config: ConfigDict) -> None:
    """Train both libraries on the same faces, and print the means of the last epochs."""
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
    experiment.train(resolve(read), run)
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
    """Return the images of a split `[N, 48, 48, 1]` in 0..1, and their labels in Keras's format."""
    resolved = resolve(config)
    attributes = resolved.attributes
    source = sources.open_split(resolved.sources, attributes, split).sources[0]
    rows = [transforms.load(source[i], i, attributes, resolved.data) for i in range(len(source))]
    values = {a.name: np.stack([row.gt.attributes[a.name].values[0] for row in rows])
              for a in attributes}  # fmt: skip
    images = np.stack([row.images for row in rows]).astype(np.float32) / 255
    race = np.eye(5, dtype=np.float32)[values["race"][:, 0].astype(int)]
    return images, {"age": values["age"][:, :1], "gender": values["gender"], "race": race}


def table(workdir: Path) -> str:
    """Return a table of the runs' means of the last epochs, and the deviation between seeds."""
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
