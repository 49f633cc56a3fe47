"""Compare the speed of the input pipeline, from files to batches, with torchvision's.

    MTL_JAX_DATA=/data nice -n 5 python -m benchmarks.pipeline --output pipeline.json
    python -m benchmarks.pipeline --libraries mtl_jax --breakdown        time of each part
    python -m benchmarks.pipeline --libraries mtl_jax --cases "augmented, masks" --steps 2000 \\
        --repeats 1                                                      memory growth

`--data` is a folder with annotations/instances.json (COCO's format) and images/; its images are
shuffled and repeated. An image's shorter side is resized to 800 pixels, unless the longer side
would exceed 1333, as in configs/coco_mask_rcnn.py. It is padded to 832 x 1344 or 1344 x 832.

Cases:

    flip                Decode, resize, mirror half of the images, transform boxes, batch.
    flip, masks         The same with masks: ours are 112 x 112 on the boxes of up to 100 instances,
                        torchvision's are as large as the image.
    augmented           Ours only: scale from 0.8 to 1.25 with crops, and brightness, contrast,
                        saturation, hue and blur with their default strengths, each with probability
                        `--probability`.
    augmented, masks    The same with masks.

torchvision's pipeline is datasets.CocoDetection with transforms v2 on uint8 tensors in PyTorch's
DataLoader, padded to the largest image of the batch. It has one worker process per core; ours has
one thread per core, or with `--processes` one process.

Each library runs a case in its own process, bound to `--cores`; the processes alternate run by run.
Reported are the best of the runs: images per second of wall-clock time, and per second of processor
time of all threads and child processes. On a shared machine compare the second, which is also the
rate of one core. A run includes the start of its threads or processes. RSS is that of the library's
main process, after 50 steps of the first run and at the end of the last.
"""

import argparse
import contextlib
import cProfile
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mtl_jax.config.options.data import AugmentOptions, DataOptions
from mtl_jax.data.loader import transforms
from mtl_jax.data.loader.photometric import change_pixels
from mtl_jax.data.pixels import read_pixels
from mtl_jax.data.readers.annotation_tools.coco import CocoSource
from mtl_jax.data.records import Record, Source, Wrapper
from mtl_jax.images.resize import resize_and_pad
from mtl_jax.io.malloc import restart_with_kept_memory

LIBRARIES = ("mtl_jax", "torchvision")
CASES = {  # the libraries that support each case
    "flip": LIBRARIES,
    "flip, masks": LIBRARIES,
    "augmented": LIBRARIES[:1],
    "augmented, masks": LIBRARIES[:1],
}
WARM_STEPS = 50


def main() -> None:
    options = _parse()
    report: dict[str, Any] = {"options": vars(options), "cases": {}}
    print(f"{'':32}    images/s   per CPU second   RSS in MB after {WARM_STEPS} steps, at the end")
    for case in options.cases:
        libraries = [name for name in CASES[case] if name in options.libraries]
        report["cases"][case] = _measure(options, case, libraries)
        if options.breakdown:
            report["cases"][case]["breakdown"] = _break_down(options, case)
        report["load_average"] = os.getloadavg()
        if options.output:
            Path(options.output).write_text(json.dumps(report, indent=1))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = Path(os.environ.get("MTL_JAX_DATA", "data")) / "coco_mini"
    parser.add_argument("--data", default=str(default), help=f"folder of images ({default})")
    parser.add_argument("--libraries", nargs="+", choices=LIBRARIES, default=LIBRARIES)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--batch", type=int, default=2, help="images per batch (2)")
    parser.add_argument("--steps", type=int, default=200, help="batches per run (200)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument(
        "--processes", action="store_true", help="use processes instead of threads in ours too"
    )
    parser.add_argument("--probability", type=float, default=0.5, help="of each change (0.5)")
    parser.add_argument("--breakdown", action="store_true", help="also time the parts")
    parser.add_argument("--output", default="", help="JSON file for all times")
    options = parser.parse_args()
    if options.steps <= WARM_STEPS:
        parser.error(f"--steps must be greater than {WARM_STEPS}, after which memory is measured")
    return options


def _measure(options: argparse.Namespace, case: str, libraries: Sequence[str]) -> dict[str, Any]:
    """Measure a case with the libraries in turn; print the best and return all runs."""
    context = multiprocessing.get_context("spawn")
    workers: dict[str, Connection] = {}
    runs: dict[str, list[dict[str, float]]] = {library: [] for library in libraries}
    # The processes end when their pipes are closed, also after an error.
    with contextlib.ExitStack() as pipes:
        for library in libraries:
            pipe, there = context.Pipe()
            workers[library] = pipes.enter_context(pipe)
            context.Process(target=_serve, args=(library, case, options, there)).start()
            there.close()  # otherwise `recv` would wait forever for a process that died
        for _ in range(options.repeats):
            for library, pipe in workers.items():
                pipe.send(True)
                runs[library].append(pipe.recv())
    for library in libraries:
        wall, cpu = (max(run[key] for run in runs[library]) for key in ("wall", "cpu"))
        memory = f"{runs[library][0]['rss_warm']:11.0f} {runs[library][-1]['rss_end']:8.0f}"
        print(f"{case:18}{library:14}{wall:12.1f}{cpu:17.1f}{memory}", flush=True)
    return runs


def _serve(library: str, case: str, options: argparse.Namespace, pipe: Connection) -> None:
    """Run the case once per request, until the other end of the pipe is closed."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    start = _start_ours if library == "mtl_jax" else _start_torchvision
    batches = start(case, options)
    with contextlib.suppress(EOFError):
        while pipe.recv():
            pipe.send(_run(batches, options))


def _run(start: Callable[[], Iterator[Any]], options: argparse.Namespace) -> dict[str, float]:
    """Return images per second of wall-clock and of processor time, and RSS in MB."""
    began, worked = time.perf_counter(), _processor_time()
    rss_warm = 0.0
    for step, _ in enumerate(start(), 1):
        if step == WARM_STEPS:
            rss_warm = resident_memory() / 1e6
    rss_end = resident_memory() / 1e6
    for child in multiprocessing.active_children():  # its time is included only after it has ended
        child.join()
    wall, cpu = time.perf_counter() - began, _processor_time() - worked
    count = options.steps * options.batch
    return {"wall": count / wall, "cpu": count / cpu, "rss_warm": rss_warm, "rss_end": rss_end}


def _processor_time() -> float:
    """Return the processor seconds of this process, its threads and its ended children."""
    return sum(os.times()[:4])


def resident_memory() -> int:
    """Return the resident memory of this process in bytes. Linux only."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _augment(options: argparse.Namespace, case: str) -> AugmentOptions:
    if "augmented" not in case:
        return AugmentOptions()
    p = options.probability
    return AugmentOptions(scale=(0.8, 1.25), brightness=p, contrast=p, saturation=p, hue=p, blur=p)


def _open(case: str, options: argparse.Namespace) -> Source:
    folder = Path(options.data)
    source = CocoSource(folder / "annotations/instances.json", folder / "images")
    return source if "masks" in case else _WithoutMasks(source)


class _WithoutMasks(Wrapper):
    """The records of a source, of which only the boxes are annotated."""

    def change(self, record: Record) -> Record:
        instances = tuple(replace(instance, segmentation=None) for instance in record.instances)
        return replace(record, instances=instances)


def _start_ours(case: str, options: argparse.Namespace) -> Callable[[], Iterator[Any]]:
    from mtl_jax.data.loader import pipeline

    source = _open(case, options)
    settings = DataOptions(
        augment=_augment(options, case), workers=options.cores, processes=options.processes
    )
    return lambda: islice(
        pipeline.train_batches([source], [1.0], (), settings, batch_size=options.batch, seed=0),
        options.steps,
    )


def _start_torchvision(case: str, options: argparse.Namespace) -> Callable[[], Iterator[Any]]:
    import torch  # pyright: ignore[reportMissingImports]
    from torchvision import datasets  # pyright: ignore[reportMissingImports]
    from torchvision.transforms import v2  # pyright: ignore[reportMissingImports]

    resize = v2.RandomShortestSize(800, max_size=1333)
    change = v2.Compose([v2.ToImage(), resize, v2.RandomHorizontalFlip()])
    folder = Path(options.data)
    with contextlib.redirect_stdout(None):  # pycocotools prints its progress
        records = datasets.CocoDetection(
            folder / "images", str(folder / "annotations/instances.json"), transforms=change
        )
    keys = {"boxes", "labels", "masks"} if "masks" in case else {"boxes", "labels"}
    dataset: Any = datasets.wrap_dataset_for_transforms_v2(records, target_keys=keys)
    return lambda: iter(
        torch.utils.data.DataLoader(
            dataset,
            options.batch,
            sampler=torch.utils.data.RandomSampler(
                dataset, num_samples=options.steps * options.batch
            ),
            num_workers=options.cores,
            collate_fn=_pad_and_stack,
        )
    )


def _pad_and_stack(rows: Sequence[tuple[Any, Any]]) -> tuple[Any, list[Any]]:
    """Return images uint8 `[B, 3, H, W]`, H and W padded to multiples of 32, and their targets."""
    import torch  # pyright: ignore[reportMissingImports]

    sizes = np.array([image.shape[1:] for image, _ in rows])
    height, width = (-(-sizes.max(0) // 32) * 32).tolist()
    batch = torch.zeros((len(rows), 3, height, width), dtype=torch.uint8)
    for out, (image, _) in zip(batch, rows, strict=True):
        out[:, : image.shape[1], : image.shape[2]] = image
    return batch, [target for _, target in rows]


def _break_down(options: argparse.Namespace, case: str) -> dict[str, float]:
    """Print and return the processor time of each part in ms per image, in one thread without
    tf.data; the minimum over the runs. It includes the profiler's.
    """
    parts = {
        "decode": read_pixels,
        "resize": resize_and_pad,
        "photometric": change_pixels,
        "masks": transforms._write_mask,
        "all but batching": transforms.load,
    }
    source = _open(case, options)
    settings = DataOptions(augment=_augment(options, case))
    runs = []
    cv2.setNumThreads(0)  # as in the pipeline
    for _ in range(options.repeats + 1):
        profile = cProfile.Profile(time.thread_time, builtins=False)
        for i in range(len(source)):
            rng = np.random.default_rng(i)
            profile.runcall(transforms.load, source[i], i, (), settings, rng)
        spent = {entry.code: entry.totaltime for entry in profile.getstats()}
        per_image = 1000 / len(source)
        runs.append({k: per_image * spent.get(part.__code__, 0) for k, part in parts.items()})
    best = {part: min(run[part] for run in runs) for part in runs[0]}
    print("   ms per image: " + ", ".join(f"{part} {ms:.1f}" for part, ms in best.items()))
    return best


if __name__ == "__main__":
    restart_with_kept_memory()  # as in our scripts; applies to torchvision's process too
    main()
