"""Compare the speed of our Mask R-CNN R50-FPN with torchvision's: same weights, images, threads.

    nice -n -5 python -m benchmarks.mask_rcnn --threads 2 --output mask_rcnn.json
    nice -n -5 python -m benchmarks.mask_rcnn --sizes 800x1333 --batches 1 2 --repeats 3
    nice -n -5 python -m benchmarks.mask_rcnn --threads 1 --breakdown    time of each part
    python -m benchmarks.mask_rcnn --libraries mtl_jax compiled          torch.compile's torchvision
    python -m benchmarks.mask_rcnn --dtype bfloat16 --sizes 832x1344 --batches 8        on a GPU

Each library runs in its own process. The processes alternate run by run, so that other load on the
machine affects both equally. Reported times are minima over the runs, of wall-clock time and of the
processor time of all threads. Report their ratio, not absolute times. On a shared machine, use one
thread and processor time.

Cases, each from images on the host to results on the host:

    100      Inference that keeps exactly 100 detections. Random weights detect nothing, so the
             score threshold is 0 and every box with a positive score counts. The bias of all
             classes except the background and `--alive` others is -10,000, so that their scores are
             exactly 0. With two such classes both libraries pass 2,000 boxes to the last NMS. (All
             90 would be 90,000 boxes, on which torchvision spends more time than on its network.)
    few      Inference that keeps about `--found` detections per image: the same weights, with the
             threshold between that number of best scores and the rest.
    train    A training step: forward, backward and an update by SGD with momentum. Everything
             except the frozen batch norms is trained, on `--objects` ellipses per image.

All networks have the same random weights, provided that ours is measured too, which writes them.
The last norm of each residual block is scaled by 1/4; otherwise the features and proposals of a
random network grow by hundreds. Both libraries paste masks to the size of the image. Reading and
resizing images is not included.
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

from benchmarks.mask_rcnn_scene import Scene, draw_scene
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
    """Measure the cases for one image size and batch size, with one process per library."""
    scene = draw_scene(options, height, width, batch)
    # A fork would inherit a thread pool that is in use.
    context = multiprocessing.get_context("spawn")
    workers, known = {}, []
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.npz"
        for library in sorted(options.libraries, key=LIBRARIES.index):  # ours writes the weights
            workers[library], there = context.Pipe()
            arguments = (library, scene, options, weights, there)
            context.Process(target=_serve, args=arguments, daemon=True).start()
            there.close()  # otherwise `recv` would wait forever for a process that died
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
        "--sizes", nargs="+", type=_size, default=[(512, 512)], help="of images (512x512)"
    )
    parser.add_argument("--batches", nargs="+", type=int, default=[1], help="batch sizes (1)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--objects", type=int, default=4, help="objects per training image")
    parser.add_argument("--found", type=int, default=8, help="detections per image of the case few")
    parser.add_argument("--alive", type=int, default=2, help="classes with positive scores")
    parser.add_argument("--libraries", nargs="+", choices=LIBRARIES, default=LIBRARIES[:2])
    parser.add_argument("--cases", nargs="+", default=(), help="names of cases or parts to measure")
    parser.add_argument(
        "--breakdown", action="store_true", help="time the parts instead of the whole"
    )
    parser.add_argument("--output", default="", help="JSON file for all times")
    options = parser.parse_args()
    if options.breakdown and "compiled" in options.libraries:
        parser.error("--breakdown: the parts of a compiled network cannot be timed")
    return options


def _size(text: str) -> tuple[int, int]:
    height, width = text.split("x")
    return int(height), int(width)


def _serve(
    library: str, scene: Scene, options: argparse.Namespace, weights: Path, pipe: Connection
) -> None:
    """Answer each case's name with (wall ms, processor ms, result), until an empty name."""
    # This limits both libraries: XLA derives its number of threads from the available processors.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    if library == "mtl_jax":
        from benchmarks import mask_rcnn_jax as bench
    else:
        from benchmarks import mask_rcnn_torchvision as bench
    options.compiled = library == "compiled"
    build = bench.parts if options.breakdown else bench.cases
    known: dict[str, Callable[[], Any]] = build(scene, options, weights)
    pipe.send(list(known))
    while name := pipe.recv():
        start, worked = time.perf_counter(), time.process_time()
        found = known[name]()
        wall, cpu = time.perf_counter() - start, time.process_time() - worked
        pipe.send((1000 * wall, 1000 * cpu, found))


def _measure(
    workers: dict[str, Connection], cases: Sequence[str], repeats: int
) -> dict[str, dict[str, Any]]:
    """Measure each case with all libraries in turn; print the minima and return all runs."""
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
    restart_with_kept_memory()  # as in our scripts; applies to torchvision's process too
    main()
