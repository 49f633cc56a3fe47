"""Logging of steps without blocking the device, and the stop at a non-finite step."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from mtl_jax.training.metric_writer import MetricWriter
from mtl_jax.training.step import StepMetrics
from mtl_jax.types import Batch

FileNames = Callable[[np.ndarray], Sequence[str]]


class NonFiniteLossError(RuntimeError):
    """A loss, gradient or batch statistic is not finite. No checkpoint contains the result."""


class SentStep(NamedTuple):
    """A step that was sent to the device."""

    number: int
    metrics: StepMetrics
    images: np.ndarray  # positions of the images in the data set, without padding rows


class StepLogger:
    """Read each step's metrics when the next step has been sent, so that the device never waits.

    The delay is harmless: the step itself leaves the state unchanged after a non-finite number.
    """

    def __init__(
        self, writer: MetricWriter, file_names: FileNames, total_steps: int, log_every: int
    ):
        self._writer, self._file_names = writer, file_names
        self._total_steps, self._log_every = total_steps, log_every
        self._sent: SentStep | None = None
        self._window: list[StepMetrics] = []  # since the last line or checkpoint
        self._clock, self._images = 0.0, 0
        self._shown: dict[str, float] = {}

    def add(self, number: int, metrics: StepMetrics, batch: Batch) -> None:
        """Register a step that was sent, and process the one before it."""
        before, index = self._sent, np.asarray(batch.index)[np.asarray(batch.valid)]
        self._sent = SentStep(number, metrics, index)
        if before is not None:
            self._take(before)

    def flush(self) -> list[dict[str, Any]]:
        """Wait for all steps, reset the means and return their values so far, as JSON values."""
        if self._sent is not None:
            self._take(self._sent)
        fetched = jax.tree.map(float, jax.device_get(self._window))
        self._sent, self._clock = None, 0.0
        self._window.clear()
        return [metrics._asdict() for metrics in fetched]

    def resume(self, values: Sequence[Mapping[str, Any]]) -> None:
        """Continue the means with the values that `flush` returned."""
        self._window = [StepMetrics(**metrics) for metrics in values]

    def _take(self, step: SentStep) -> None:
        if not bool(step.metrics.finite):
            raise NonFiniteLossError(_describe(step, self._file_names(step.images)))
        self._window.append(step.metrics)
        if self._clock:
            self._images += len(step.images)
        else:  # the time before the first step's end includes compilation or validation
            self._clock, self._images = time.monotonic(), 0
        if step.number % self._log_every == 0 or step.number == self._total_steps:
            self._log(step.number)
        self._writer.progress(step.number, self._shown)

    def _log(self, number: int) -> None:
        """Write the means since the last line or checkpoint, and the last learning rate."""
        fetched = jax.device_get(self._window)
        mean = jax.tree.map(lambda *values: float(np.mean(values, dtype=np.float64)), *fetched)
        line = {"loss": mean.loss, **mean.terms, "grad_norm": mean.grad_norm}
        line |= {f"balance/{name}": weight for name, weight in (mean.weights or {}).items()}
        line["learning_rate"] = float(fetched[-1].learning_rate)
        seconds = time.monotonic() - self._clock
        if self._images:
            line["images_per_second"] = self._images / seconds
        self._writer.write(number, {f"train/{name}": value for name, value in line.items()})
        self._shown = {"loss": line["loss"], "img/s": line.get("images_per_second", math.nan)}
        self._window.clear()
        self._clock, self._images = time.monotonic(), 0


def _describe(step: SentStep, names: Sequence[str]) -> str:
    """Return the error message, with the values that are not finite and the images."""
    metrics = jax.device_get(step.metrics)
    values = {**metrics.terms, "loss": metrics.loss, "gradient norm": metrics.grad_norm}
    bad = [f"{name} is {value}" for name, value in values.items() if not np.isfinite(value)]
    good = [f"{name} {value:.6g}" for name, value in values.items() if np.isfinite(value)]
    return (
        f"step {step.number}: {', '.join(bad) or 'a batch statistic is not finite'}"
        f" (finite: {', '.join(good) or 'none'}); images: {', '.join(names)}"
    )
