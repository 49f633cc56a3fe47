"""Interrupt a small training at random moments and compare it with an uninterrupted one.

    python -m benchmarks.kills --count 45 --workdir runs/kills

A training of configs/rcnn_face.py:tiny is started, interrupted and resumed until it is
complete; then another one is started. An interruption is SIGKILL, SIGTERM or SIGINT, or a signal
twice, at a moment that is uniformly distributed over the duration of the training, with its start
and imports. Each complete run must have the same weights, optimizer state, best checkpoint and
logged values as the uninterrupted one, to the bit.

Writes WORKDIR/kills.json and exits with code 1 if a run differs, or if a process did not end within
`--limit` seconds after a signal, with the code 128 + signal.
"""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mtl_jax.io.atomic import write_json
from mtl_jax.training.checkpoint import Checkpointer

ROOT = Path(__file__).resolve().parents[1]
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
ARGUMENTS = (
    *("--config", "configs/rcnn_face.py:tiny"),
    "--config.data.sources[0].length=12",
    "--config.data.sources[1].length=4",
    "--config.data.sources[2].length=4",
    "--config.stages=({'layers':'all','steps':8},{'layers':'all','steps':32})",
    "--config.train.batch_size=4",
    "--config.train.ema=0.9",
    "--config.train.log_every=4",
    "--config.train.eval_every=15",
    "--config.train.checkpoint_every=9",
    "--config.eval.batch_size=2",
)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=Path, default=Path("runs/kills"))
    parser.add_argument("--count", type=int, default=45, help="interruptions (default: 45)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=60, help="seconds until a process must end")
    arguments = parser.parse_args()
    # A signal that is ignored here would be ignored in the trainings, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    folder, rng = arguments.workdir.absolute(), np.random.default_rng(arguments.seed)
    shutil.rmtree(folder, ignore_errors=True)
    whole, faults = folder / "whole", []
    finish(whole)
    began = time.monotonic()
    finish(folder / "again")  # without compilation
    seconds = time.monotonic() - began
    faults += differences(folder / "again", whole)
    rows, number = [], 0
    for _ in range(arguments.count):
        run = folder / f"run{number}"
        row = interrupt(run, rng, seconds, arguments.limit)
        rows.append(row | {"run": run.name, "step": latest(run)})
        print(json.dumps(rows[-1]), flush=True)
        if row["fault"]:
            faults.append(f"{run.name}: {row['fault']}")
        if row["code"] == 0:
            faults += differences(run, whole)
            number += 1
    run = folder / f"run{number}"
    finish(run)
    faults += differences(run, whole)
    result = {"seconds": seconds, "complete": number + 1, "faults": faults, "interruptions": rows}
    write_json(folder / "kills.json", result)
    print(f"{len(rows)} interruptions, {number + 1} complete runs, {len(faults)} faults")
    print(*faults, sep="\n")
    return 1 if faults else 0


def start(run: Path) -> subprocess.Popen[str]:
    command = (sys.executable, "train.py", "--workdir", str(run), *ARGUMENTS)
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True)


def finish(run: Path) -> None:
    """Train until the run is complete."""
    process = start(run)
    _, err = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{run}: {err}")


def interrupt(run: Path, rng: np.random.Generator, seconds: float, limit: float) -> dict[str, Any]:
    """Start or resume a training, interrupt it, and return how it ended."""
    moment, number = float(rng.uniform(0, seconds)), SIGNALS[rng.integers(len(SIGNALS))]
    again = float(rng.uniform(0, 2)) if rng.random() < 0.25 else None  # a second signal
    process, code, err = start(run), None, ""
    for wait in (moment, again):
        try:
            _, err = process.communicate(timeout=wait) if wait is not None else ("", err)
            break
        except subprocess.TimeoutExpired:
            process.send_signal(number)
    began = time.monotonic()
    try:
        if process.returncode is None:
            _, err = process.communicate(timeout=limit)
        code = process.returncode
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
    # Before the first line of train.py has run, a signal has its default effect.
    fault = "" if code in (0, -number, 128 + number) else f"code {code}: {err[-300:]}"
    ended = {"code": code, "fault": fault, "ended_after": round(time.monotonic() - began, 2)}
    return {"signal": number.name, "moment": round(moment, 2), "twice": again is not None, **ended}


def latest(run: Path) -> int | None:
    """Return the last step that was saved."""
    return Checkpointer(run / "checkpoints").latest()


def differences(run: Path, whole: Path) -> list[str]:
    """Return what differs between two complete runs."""
    one, two = (Checkpointer(folder / "checkpoints") for folder in (run, whole))
    faults = []
    if (one.latest(), one.best()) != (two.latest(), two.best()):
        return [f"{run.name}: step {one.latest()}, best {one.best()}"]
    for step in ("latest", "best"):
        for item in ("variables", "optimizer"):
            a, b = (jax.tree.leaves(each.restore_item(step, item)) for each in (one, two))
            same = [x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True)]
            if not all(same):
                faults.append(f"{run.name}: {same.count(False)} arrays of {item}, {step}, differ")
    if _lines(run) != _lines(whole):
        faults.append(f"{run.name}: metrics.jsonl differs")
    return faults


def _lines(run: Path) -> Sequence[dict[str, Any]]:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "train/images_per_second"} for line in found]


if __name__ == "__main__":
    raise SystemExit(main())
