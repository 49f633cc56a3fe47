"""Where the numbers of a run go: a JSON line each, TensorBoard, and a progress bar."""

import json
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from tensorboardX import SummaryWriter
from tqdm import tqdm

from mtl_jax.io.atomic import write_whole


class MetricWriter:
    """Write `RUN/metrics.jsonl`, TensorBoard events beside it, and the progress on the terminal.

    Where stderr is no terminal, progress is a plain line every `seconds` at most. With several
    hosts, `active` is True on one.
    """

    def __init__(
        self, folder: str | Path, total_steps: int, *, seconds: float = 30.0, active: bool = True
    ):
        self.path = Path(folder) / "metrics.jsonl"
        self._total_steps, self._seconds, self._active = total_steps, seconds, active
        self._events: SummaryWriter | None = None
        self._bar: tqdm | None = None
        self._first_step = self._last_step = 0
        self._started = self._printed = time.monotonic()

    def start(self, step: int) -> None:
        """Go on after `step` steps: what a run that was killed wrote of later ones goes."""
        self._first_step = self._last_step = step
        self._started = self._printed = time.monotonic()
        if not self._active:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            _truncate(self.path, step)
        self._events = SummaryWriter(str(self.path.parent), purge_step=step + 1)
        if sys.stderr.isatty():
            self._bar = tqdm(
                total=self._total_steps, initial=step, unit="step", dynamic_ncols=True, leave=True
            )

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append a line of metrics, null where not finite; a kill of the process loses none."""
        if not self._active:
            return
        values = {name: float(value) for name, value in metrics.items()}
        line = {name: value if math.isfinite(value) else None for name, value in values.items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **line}) + "\n")
        if self._events is not None:
            for name, value in line.items():
                if value is not None:
                    self._events.add_scalar(name, value, step)

    def say(self, text: str) -> None:
        """Print a line, above the progress bar where there is one."""
        if self._active:
            tqdm.write(text, file=sys.stderr)

    def progress(self, step: int, metrics: Mapping[str, float]) -> None:
        """Show how far the run is, with a few numbers. Cheap: call it at each step."""
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
            if done > 1:  # the first one is compiled
                left = (self._total_steps - step) / done
                shown.append(f"{_duration(left * (self._printed - self._started))} left")
            line = ", ".join([f"step {step}/{self._total_steps}", *shown])
            print(line, file=sys.stderr, flush=True)
        self._last_step = step

    def close(self) -> None:
        """Flush everything."""
        if self._events is not None:
            self._events.close()
        if self._bar is not None:
            self._bar.close()
        self._events = self._bar = None


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


def _truncate(path: Path, step: int) -> None:
    """Keep the lines of steps up to `step`, but for one that a kill cut off."""
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except ValueError:
            continue
    with write_whole(path) as draft:
        draft.write_text("".join(kept), encoding="utf-8")
