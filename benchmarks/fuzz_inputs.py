"""Open thousands of mutated annotation files and images, and report what is not one line.

    nice python -m benchmarks.fuzz_inputs --output fuzz
    python -m benchmarks.fuzz_inputs --formats via jpeg --annotations 300 --images 100
    python -m benchmarks.fuzz_inputs --formats via --first 1234 --annotations 1 --images 0 --trace

The seeds are drawn by this script. A case mutates the annotation file of a seed, or an image, at
random: values of other types, huge numbers, missing, repeated and exchanged parts, single bytes,
and truncation. A source is opened with on_error "stop" and "skip", and all its records are read
with their masks and pixels; an image is decoded with 1, 3 and 4 channels.

A case fails if it raises anything but UserError (ValueError and OSError for an image), prints a
line that is longer than 300 characters beside paths or is not printable, ends its process, takes
more than 10 s, or more than 2 GB of memory. `--annotations` cases are divided among the annotation
formats, `--images` among the image formats. Failing files are copied to `--output`, and the exit
status is 1 if there are any.
"""

import argparse
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

from benchmarks import fuzz_seeds
from mtl_jax.attributes.declarations import from_config
from mtl_jax.attributes.vocabulary import LANDMARKS
from mtl_jax.data.pixels import read_pixels
from mtl_jax.data.readers.folders import look_at
from mtl_jax.data.readers.format import Labels
from mtl_jax.data.readers.formats import FORMATS
from mtl_jax.data.records import named
from mtl_jax.data.segmentation import to_mask
from mtl_jax.errors import MAX_LINE, MAX_PATH, UserError
from mtl_jax.images.decode import decode, image_size

SECONDS, BYTES = 10.0, 2 * 10**9
ATTRIBUTES = {
    "age": dict(kind="continuous", range=(0, 120)),
    "gender": dict(kind="categorical", classes=("male", "female")),
    "head": dict(kind="pose", angles=("yaw", "pitch", "roll")),
    "face": dict(kind="landmarks", points=LANDMARKS),
}


class Case(NamedTuple):
    """What a worker reports of a case when it ends."""

    number: int
    outcome: str  # accepted, refused, or the error
    seconds: float
    memory: int  # peak of the process in bytes


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--annotations", type=int, default=10_000, help="cases (10000)")
    parser.add_argument("--images", type=int, default=4_000, help="cases (4000)")
    parser.add_argument("--first", type=int, default=0, help="number of the first case (0)")
    parser.add_argument("--formats", nargs="*", default=(), help="only these formats")
    parser.add_argument("--output", type=Path, help="folder for failing files")
    parser.add_argument("--trace", action="store_true", help="print tracebacks")
    arguments = parser.parse_args()
    failures = 0
    parts = ((arguments.annotations, fuzz_seeds.ANNOTATIONS), (arguments.images, fuzz_seeds.IMAGES))
    for every, formats in parts:
        chosen = [name for name in formats if not arguments.formats or name in arguments.formats]
        chosen = chosen[:every]  # each format has at least one case
        for place, name in enumerate(chosen):
            count = every // len(chosen) + (place < every % len(chosen))
            numbers = range(arguments.first, arguments.first + count)
            failures += run_format(name, numbers, arguments.output, arguments.trace)
    return 1 if failures else 0


def run_format(name: str, numbers: range, output: Path | None, trace: bool) -> int:
    """Run the cases of a format in worker processes, print a line, and return the failures."""
    outcomes: Counter[str] = Counter()
    slowest, largest, failed, left = 0.0, 0, 0, numbers
    with tempfile.TemporaryDirectory() as folder:
        while left:
            ours, theirs = multiprocessing.Pipe()
            context = multiprocessing.get_context("spawn")
            worker = context.Process(target=work, args=(theirs, name, left, folder, trace))
            worker.start()
            theirs.close()
            done = _receive(ours, worker, left)
            for case in done:
                slowest, largest = max(slowest, case.seconds), max(largest, case.memory)
                outcomes[case.outcome] += 1
                if case.outcome not in ("accepted", "refused"):
                    failed += 1
                    print(f"  {name} {case.number}: {case.outcome}", flush=True)
                    if output is not None:
                        target = output / f"{name}-{case.number}"
                        shutil.rmtree(target, ignore_errors=True)
                        fuzz_seeds.write_case(name, case.number, target)
            left = left[len(done) :]
    print(
        f"{name}: {len(numbers)} cases, {outcomes['accepted']} accepted, {outcomes['refused']} "
        f"refused, {failed} failed; slowest {slowest:.1f} s, largest {largest / 1e6:.0f} MB",
        flush=True,
    )
    return failed


def _receive(ours: Connection, worker: BaseProcess, numbers: range) -> list[Case]:
    """Return the cases of a worker until it ends; the last one may have ended it."""
    done: list[Case] = []
    wrong = ""
    while len(done) < len(numbers) and not wrong:
        # The first case includes the start of the process.
        if not ours.poll(SECONDS if done else 60 + SECONDS):
            wrong = f"more than {SECONDS:g} s"
            break
        try:
            done.append(ours.recv())
        except EOFError:
            worker.join()
            wrong = f"the process ended with {worker.exitcode}"
        if done and done[-1].memory > BYTES:  # the peak of a process does not decrease
            done[-1] = done[-1]._replace(outcome=f"{done[-1].memory / 1e9:.1f} GB")
            break
    worker.kill()
    worker.join()
    if wrong:
        done.append(Case(numbers[len(done)], wrong, SECONDS, 0))
    return done


def work(pipe: Connection, name: str, numbers: range, folder: str, trace: bool) -> None:
    """Run cases in this process and send each one's outcome."""
    quiet = os.open(os.devnull, os.O_WRONLY)  # libraries print to stderr
    if not trace:
        os.dup2(quiet, sys.stderr.fileno())
    # A case that takes all memory ends this process, not the machine.
    resource.setrlimit(resource.RLIMIT_AS, (24 * 10**9, 24 * 10**9))
    for number in numbers:
        place = Path(folder) / str(number)
        fuzz_seeds.write_case(name, number, place)
        start = time.monotonic()
        try:
            outcome = open_case(name, place)
        except BaseException as error:
            if trace:
                traceback.print_exc()
            frame = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(frame.filename).name}:{frame.lineno}"
            outcome = f"{type(error).__name__} in {where}: {str(error)[:100]!r}"
        seconds = time.monotonic() - start
        memory = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        pipe.send(Case(number, outcome, seconds, memory))
        shutil.rmtree(place)


def open_case(name: str, folder: Path) -> str:
    """Open a case, and return accepted or refused. Raises whatever is wrong with it."""
    if name in fuzz_seeds.IMAGES:
        return _open_image(folder / fuzz_seeds.IMAGE)
    outcome, attributes = "accepted", from_config(ATTRIBUTES)
    kind = FORMATS[fuzz_seeds.ANNOTATIONS[name].format]
    block = {**kind.options, **fuzz_seeds.ANNOTATIONS[name].block}
    for on_error in ("stop", "skip"):
        try:
            source = kind.open(folder, block, Labels(attributes, on_error=on_error))
            for position in range(len(source)):
                record = source[position]
                for read in (source.group, source.key, source.name):
                    read(position)
                with named(record):
                    height, width = read_pixels(record, 3).shape[:2]
                    for instance in record.instances:
                        if instance.segmentation is not None:
                            to_mask(instance.segmentation, height, width)
        except UserError as error:
            outcome = "refused"
            _check_lines(str(error))
    return outcome


def _check_lines(text: str) -> None:
    for line in text.split("\n"):
        beside = sum(len(word) + 1 for word in line.split(" ") if "/" not in word)
        if not line.isprintable() or beside > MAX_LINE + 80 or len(line) > MAX_PATH + MAX_LINE:
            raise AssertionError(f"a line of {len(line)} characters: {line[:200]!r}")


def _open_image(path: Path) -> str:
    outcome = "refused"
    decoders = [partial(decode, channels=channels) for channels in (1, 3, 4)]
    for read in (image_size, look_at, *decoders):
        try:
            read(path)
            outcome = "accepted"
        except (ValueError, OSError) as error:
            if "\n" in str(error):
                raise AssertionError(f"several lines: {error}") from None
    return outcome


if __name__ == "__main__":
    sys.exit(main())
