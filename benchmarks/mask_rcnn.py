"""Time our Mask R-CNN R50-FPN beside torchvision's: the same weights, pictures and threads.

    nice -n -5 python -m benchmarks.mask_rcnn --threads 2 --output mask_rcnn.json
    nice -n -5 python -m benchmarks.mask_rcnn --sizes 800x1333 --batches 1 2 --repeats 3
    nice -n -5 python -m benchmarks.mask_rcnn --threads 1 --breakdown    where the time goes
    python -m benchmarks.mask_rcnn --libraries mtl_jax compiled          torch.compile's torchvision
    python -m benchmarks.mask_rcnn --dtype bfloat16 --sizes 832x1344 --batches 8        on a GPU

Each library runs in a process of its own; they take turns, run by run, so that what else the
machine does meets both. A figure is the minimum over the runs, of the wall clock and of the
processor time of all threads: quote their ratio, never a time. On a machine that others use, one
thread and the processor time are the fair comparison.

Cases, each from pictures on the host to results on the host:

    100      Inference that keeps exactly 100 detections. Random weights find nothing, so the score
             threshold is 0, at which every box counts whose score is not zero; and the bias of all
             classes but background and `--alive` others is -10,000, so that their scores are
             exactly 0. With two classes alive both hand 2,000 boxes to the last NMS. (All 90 would
             be 90,000, on which torchvision spends longer than on its network.)
    few      Inference that keeps what the picture gives, `--found`: the same weights, the threshold
             between that many best scores and the rest.
    train    A training step: forward, backward and an update by SGD with momentum, everything
             trained but the frozen batch norms, on `--objects` ellipses a picture.

All networks have the same random weights (where ours is measured too, which writes them). The last
norm of each residual block is scaled by 1/4, without which the features of a random network grow by
hundreds and proposals with them. Masks are pasted to the picture's size on both sides. Reading and
resizing pictures is not part of it.
"""

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import product
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.mask_rcnn_scene import Scene, scene
from mtl_jax.io.malloc import restart_with_kept_memory

LIBRARIES = ("mtl_jax", "torchvision", "compiled")


def main() -> None:
    options = _parse()
    report: dict[str, Any] = {"options": vars(options), "settings": []}
    for (height, width), batch in product(options.sizes, options.batches):
        print(f"{height} x {width}, batch {batch}")
        setting = {
            "size": (height, width),
            "batch": batch,
            "cases": _run(options, height, width, batch),
        }
        report["settings"].append(setting)
        report["load_average"] = os.getloadavg()
        if options.output:
            Path(options.output).write_text(json.dumps(report, indent=1))


def _run(options: argparse.Namespace, height: int, width: int, batch: int) -> dict[str, Any]:
    """Measure the cases on pictures of one size and number; a process for each library."""
    pictures = scene(options, height, width, batch)
    # A fork would carry a used thread pool along.
    context = multiprocessing.get_context("spawn")
    workers, known = {}, []
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.npz"
        for library in sorted(options.libraries, key=LIBRARIES.index):  # ours writes the weights
            workers[library], there = context.Pipe()
            arguments = (library, pictures, options, weights, there)
            context.Process(target=_serve, args=arguments, daemon=True).start()
            there.close()  # else the wait for a process that died has no end
            known += [name for name in workers[library].recv() if name not in known]
    heads = "".join(f"{library:>16} ms    cpu" for library in workers)
    ratios = "".join(f"{library:>17}, cpu" for library in list(workers)[1:])
    print(f"{'':25}{heads}{ratios}")
    chosen = [name for name in known if not options.cases or name in options.cases]
    cases = _measure(workers, chosen, options.repeats)
    for pipe in workers.values():
        pipe.send("")
    return cases


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sizes", nargs="+", type=_size, default=[(512, 512)], help="of pictures: 512x512"
    )
    parser.add_argument("--batches", nargs="+", type=int, default=[1], help="pictures at once: 1")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--objects", type=int, default=4, help="objects of a training picture")
    parser.add_argument("--found", type=int, default=8, help="detections of a picture of few")
    parser.add_argument("--alive", type=int, default=2, help="classes that random weights find")
    parser.add_argument("--libraries", nargs="+", choices=LIBRARIES, default=LIBRARIES[:2])
    parser.add_argument(
        "--cases", nargs="+", default=(), help="the cases or parts with these names"
    )
    parser.add_argument("--breakdown", action="store_true", help="time the parts, not the whole")
    parser.add_argument("--output", default="", help="a JSON file for all times")
    options = parser.parse_args()
    if options.breakdown and "compiled" in options.libraries:
        parser.error("--breakdown: the parts of a compiled network cannot be timed")
    return options


def _size(text: str) -> tuple[int, int]:
    height, width = text.split("x")
    return int(height), int(width)


def _serve(
    library: str, pictures: Scene, options: argparse.Namespace, weights: Path, pipe: Connection
) -> None:
    """Answer a case's name with (wall ms, processor ms, what it found), until it is empty."""
    # One limit for both: XLA takes its number of threads from the processors it may use.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    if library == "mtl_jax":
        from benchmarks import mask_rcnn_jax as bench
    else:
        from benchmarks import mask_rcnn_torchvision as bench
    options.compiled = library == "compiled"
    build = bench.parts if options.breakdown else bench.cases
    known: dict[str, Callable[[], Any]] = build(pictures, options, weights)
    pipe.send(list(known))
    while name := pipe.recv():
        start, worked = time.perf_counter(), time.process_time()
        found = known[name]()
        wall, cpu = time.perf_counter() - start, time.process_time() - worked
        pipe.send((1000 * wall, 1000 * cpu, found))


def _measure(
    workers: dict[str, Connection], cases: Sequence[str], repeats: int
) -> dict[str, dict[str, Any]]:
    """Let the libraries take turns at each case; print and give the smallest times of each."""
    report = {}
    for case in cases:
        found = {library: _ask(pipe, case)[2] for library, pipe in workers.items()}  # compiles
        runs = [
            {library: _ask(pipe, case)[:2] for library, pipe in workers.items()}
            for _ in range(repeats)
        ]
        report[case] = {"found": found, "runs": runs}
        best = np.array([[run[library] for library in workers] for run in runs]).min(0)
        line = "".join(f"{wall:12.1f}{cpu:10.1f}" for wall, cpu in best)
        for library, other in zip(list(workers)[1:], best[1:], strict=True):
            wall, cpu = best[0] / other
            report[case][f"ratio to {library}"], report[case][f"cpu ratio to {library}"] = wall, cpu
            line += f"{wall:12.2f}{cpu:10.2f}"
        print(f"{case:32}{line}   {list(found.values())}", flush=True)
    return report


def _ask(pipe: Connection, case: str) -> tuple[float, float, Any]:
    pipe.send(case)
    return pipe.recv()


if __name__ == "__main__":
    restart_with_kept_memory()  # as our scripts; torchvision's process has them too
    main()
