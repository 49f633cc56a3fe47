"""Time our Mask R-CNN R50-FPN beside torchvision's: the same pictures, threads and amount of work.

    nice -n -5 python -m benchmarks.mask_rcnn --size 512 --threads 2 --output mask_rcnn.json
    nice -n -5 python -m benchmarks.mask_rcnn --breakdown     where the time goes, part by part
    python -m benchmarks.mask_rcnn --dtype bfloat16           on a GPU

Each library runs in a process of its own; they take turns, run by run, so that what else the
machine does meets both. A figure is the minimum over the runs; quote the ratio, never the time.

Cases, each from a picture on the host to results on the host:

    100 detections   Both keep exactly 100. Random weights find nothing, so the score threshold is
                     0, at which every box counts whose score is not zero; and the bias of all
                     classes but background and `--alive` others is -10,000, whose scores are
                     exactly 0. With two classes alive both hand 2,000 boxes to the last NMS. (All
                     90 would be 90,000, on which torchvision spends longer than on its network.)
    few detections   The same weights; the threshold lies between the best `--found` scores and
                     the rest, so that both find that many.
    training step    Forward, backward and an update by SGD with momentum, all layers trained but
                     the frozen batch norms, on `--objects` ellipses with their masks.

Both networks have the same shapes and initial distributions. The last norm of each residual block
is scaled by 1/4, without which the features of a random network grow by a thousand, and proposals
with them. Masks are pasted to the picture's size on both sides. The optimizer's and our input
pipeline's own work is not part of it.
"""

import argparse
import json
import multiprocessing
import os
import platform
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

LIBRARIES = ("mtl_jax", "torchvision")
CLASSES = 91


class Scene(NamedTuple):
    """Pictures and their objects, for both libraries. Coordinates are pixels."""

    images: np.ndarray  # uint8 [B, H, W, 3]
    boxes: np.ndarray  # float32 [B, M, 4]: x1, y1, x2, y2
    classes: np.ndarray  # int64 [B, M]


def main() -> None:
    options = _parse()
    # A fork would carry a used thread pool along.
    context = multiprocessing.get_context("spawn")
    workers = {}
    for library in options.libraries:
        here, there = context.Pipe()
        context.Process(target=_serve, args=(library, options, there), daemon=True).start()
        workers[library] = here
    ask = {library: _asker(pipe) for library, pipe in workers.items()}
    report = _breakdown(ask, options) if options.breakdown else _compare(ask, options)
    report = {"options": vars(options), "processor": platform.processor(), **report}
    report["load_average"] = os.getloadavg()
    if options.output:
        Path(options.output).write_text(json.dumps(report, indent=1))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=512, help="side of the square pictures")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--objects", type=int, default=4, help="objects of a training picture")
    parser.add_argument("--found", type=int, default=8, help="detections of a picture of few")
    parser.add_argument("--alive", type=int, default=2, help="classes that random weights find")
    parser.add_argument("--libraries", nargs="+", choices=LIBRARIES, default=LIBRARIES)
    parser.add_argument("--cases", nargs="+", choices=("100", "few", "train"), default=None)
    parser.add_argument("--breakdown", action="store_true", help="time the parts, not the whole")
    parser.add_argument("--output", default="", help="a JSON file for all times")
    return parser.parse_args()


def scene(options: argparse.Namespace) -> Scene:
    """Draw pictures of smooth noise, with boxes of a tenth to a half of the side."""
    rng = np.random.default_rng(0)
    shape = (options.batch, options.objects, 2)
    coarse = rng.integers(0, 256, (options.batch, options.size // 16 + 1, options.size // 16 + 1, 3))
    images = coarse.repeat(16, 1).repeat(16, 2)[:, : options.size, : options.size]
    corners = rng.uniform(0, options.size / 2, shape)
    boxes = np.concatenate([corners, corners + rng.uniform(0.1, 0.5, shape) * options.size], -1)
    classes = rng.integers(1, CLASSES, shape[:2])
    return Scene(images.astype(np.uint8), boxes.astype(np.float32), classes)


def ellipse(boxes: np.ndarray, frames: np.ndarray, side: int) -> np.ndarray:
    """Fill the ellipse in each box, seen on side x side cells of its frame: bool [..., S, S]."""
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2
    half = (boxes[..., 2:] - boxes[..., :2]) / 2
    step = (np.arange(side) + 0.5) / side
    size = frames[..., 2:] - frames[..., :2]
    at = frames[..., None, :2] + step[:, None] * size[..., None, :]
    squared = ((at - centre[..., None, :]) / half[..., None, :]) ** 2
    return squared[..., :, None, 1] + squared[..., None, :, 0] <= 1


def _serve(library: str, options: argparse.Namespace, pipe: Connection) -> None:
    """Answer a case's name with (milliseconds, what it found), until the pipe closes."""
    # One limit for both: XLA takes its number of threads from the processors it may use.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    if library == "mtl_jax":
        from benchmarks import mask_rcnn_jax as bench
    else:
        from benchmarks import mask_rcnn_torchvision as bench
    build = bench.parts if options.breakdown else bench.cases
    known: dict[str, Callable[[], Any]] = build(scene(options), options)
    pipe.send(list(known))
    while (name := pipe.recv()) is not None:
        start = time.perf_counter()
        found = known[name]()
        pipe.send((1000 * (time.perf_counter() - start), found))


def _asker(pipe: Connection) -> Callable[..., Any]:
    def ask(name: str | None = None) -> Any:
        if name is not None:
            pipe.send(name)
        return pipe.recv()

    return ask


def _compare(ask: dict[str, Callable[..., Any]], options: argparse.Namespace) -> dict[str, Any]:
    for library in ask:
        ask[library]()  # the names: it is ready
    report = {}
    width = max(map(len, ask))
    for case in options.cases or ("100", "few", "train"):
        times: dict[str, list[float]] = {library: [] for library in ask}
        found = {library: ask[library](case)[1] for library in ask}  # compiles, and warms up
        for _ in range(options.repeats):
            for library in ask:
                times[library].append(ask[library](case)[0])
        best = {library: min(values) for library, values in times.items()}
        for library in ask:
            print(f"{case:6}{library:{width + 2}}{best[library]:9.1f} ms   {found[library]}")
        report[case] = {"ms": times, "found": found}
        if len(best) == 2:
            report[case]["ratio"] = best[LIBRARIES[0]] / best[LIBRARIES[1]]
            print(f"{case:6}{'ratio':{width + 2}}{report[case]['ratio']:9.2f}", flush=True)
    return report


def _breakdown(ask: dict[str, Callable[..., Any]], options: argparse.Namespace) -> dict[str, Any]:
    report = {}
    for library in ask:
        parts: dict[str, float] = {}
        for name in ask[library]():
            ask[library](name)
            parts[name] = min(ask[library](name)[0] for _ in range(options.repeats))
            print(f"{library:12}{name:32}{parts[name]:9.1f} ms", flush=True)
        report[library] = parts
    return report


if __name__ == "__main__":
    main()
