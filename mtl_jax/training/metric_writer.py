"""Output of a run's metrics: JSON lines, TensorBoard events and a progress bar."""

import json
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from tqdm import tqdm

from mtl_jax.io.atomic import write_whole
from mtl_jax.io.event_file import EventFile


class MetricWriter:
    """Write `RUN/metrics.jsonl`, TensorBoard events next to it, and the progress to stderr.

    If stderr is not a terminal, progress is a plain line at most every `seconds`. With several
    hosts, `active` must be True on only one.
    """

    def __init__(
        self, folder: str | Path, total_steps: int, *, seconds: float = 30.0, active: bool = True
    ):
        self.path = Path(folder) / "metrics.jsonl"
        self._total_steps, self._seconds, self._active = total_steps, seconds, active
        self._events: EventFile | None = None
        self._bar: tqdm | None = None
        self._first_step = self._last_step = 0
        self._started = self._printed = time.monotonic()

    def start(self, step: int, validates: bool = False) -> None:
        """Start after `step` steps; lines of later steps, written before a kill, are removed.

        `validates`: the validation of this step follows, and a line that it had is removed.
        """
        self._first_step = self._last_step = step
        self._started = self._printed = time.monotonic()
        if not self._active:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            _truncate(self.path, step, validates)
        self._events = EventFile(self.path.parent, step + 1)
        if sys.stderr.isatty():
            self._bar = tqdm(
                total=self._total_steps, initial=step, unit="step", dynamic_ncols=True, leave=True
            )

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append a line of metrics, with null for non-finite ones; it survives a later kill."""
        if not self._active:
            return
        values = {name: float(value) for name, value in metrics.items()}
        line = {name: value if math.isfinite(value) else None for name, value in values.items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **line}) + "\n")
        if self._events is not None:
            finite = {name: value for name, value in line.items() if value is not None}
            self._events.write(step, finite)

    def print_line(self, text: str) -> None:
        """Print a line, above the progress bar if there is one."""
        if self._active:
            tqdm.write(text, file=sys.stderr)

    def progress(self, step: int, metrics: Mapping[str, float]) -> None:
        """Show the progress and a few metrics; it is cheap enough to be called at each step."""
        if not self._active:
            return
        known = {name: value for name, value in metrics.items() if math.isfinite(value)}
        shown = [f"{name} {value:.4g}" for name, value in known.items()]
        if self._bar is not None:
            self._bar.set_postfix_str(", ".join(shown), refresh=False)
            self._bar.update(step - self._last_step)
        elif time.monotonic() - self._printed >= self._seconds or step == self._total_steps:
            self._printed = time.monotonic()
            done = step - self._first_step
            if done > 1:  # the first step includes compilation
                left = (self._total_steps - step) / done
                shown.append(f"{_duration(left * (self._printed - self._started))} left")
            line = ", ".join([f"step {step}/{self._total_steps}", *shown])
            print(line, file=sys.stderr, flush=True)
        self._last_step = step

    def close(self) -> None:
        """Close the progress bar."""
        if self._bar is not None:
            self._bar.close()
        self._events = self._bar = None


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


def _truncate(path: Path, step: int, validates: bool) -> None:
    """Remove the lines of steps after `step`, if `validates` also that of its validation, and a
    line that a kill truncated.
    """
    kept = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
            trained = any(name.startswith("train/") for name in line)
            if line["step"] < step or (line["step"] == step and (trained or not validates)):
                kept.append(text + "\n")
        except (ValueError, KeyError, TypeError):
            continue
    with write_whole(path) as draft:
        draft.write_text("".join(kept), encoding="utf-8")
