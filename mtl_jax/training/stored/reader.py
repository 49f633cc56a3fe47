"""Reading of checkpoints, without Orbax and the training code."""

import json
import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from mtl_jax.errors import UserError
from mtl_jax.io.digests import NAME as DIGESTS
from mtl_jax.io.digests import file_digest, find_damage, read_checked_json
from mtl_jax.io.numbered_folders import NumberedFolders
from mtl_jax.training.stored.arrays import read_arrays
from mtl_jax.types import Variables

_log = logging.getLogger(__name__)
METRICS = "metrics.json"  # added after the checkpoint, hence with its own digest
READ = ("variables", "record")  # the items that prediction requires
RESUMED = (*READ, "optimizer", "raw", "balance")  # those that training requires
_reported: set[str] = set()  # damages that were logged


class Stored(NamedTuple):
    """What prediction requires of a checkpoint."""

    step: int
    metadata: dict[str, Any]
    variables: Variables


class CheckpointReader:
    """The checkpoints in a folder, `RUN/checkpoints`, by the number of completed steps.

    Training may continue while they are read. `latest` and `best` skip damaged checkpoints, with a
    warning.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder).absolute()
        self._folders = NumberedFolders(self.folder)
        self.best_metric, self._best_mode = "", "max"
        self._damage: dict[tuple[int, str], str] = {}  # of each item; '': none
        # The metrics of each step of a run in training, equal on all hosts; None: read from disk.
        self._own: dict[int, dict[str, float]] | None = None

    def _metrics_of(self, step: int) -> dict[str, float]:
        return self._read_metrics(step) if self._own is None else self._own[step]

    def _read_metrics(self, step: int) -> dict[str, float]:
        """Return the metrics stored with a step; empty if there are none or they are damaged."""
        folder = self._folders.folder(step)
        try:
            if not (folder / METRICS).exists():  # a run of an earlier version
                return dict(json.loads((folder / "metrics/metrics").read_text(encoding="utf-8")))
            return dict(read_checked_json(folder / METRICS))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            _log.warning("%s; the metrics of this step are not used", error)
            return {}

    def _by_score(self, steps: Sequence[int]) -> list[int]:
        """Return the steps that have the best metric, the best first."""
        name, mode = self.best_metric, self._best_mode
        if self._own is None and steps:
            record = self._read_record(self._first_sound(steps[::-1], ("record",)))
            name, mode = record["best_metric"], record["best_mode"]
        scores = {}
        for step in steps:
            value = float(self._metrics_of(step).get(name, math.nan))
            if not math.isnan(value):
                scores[step] = value if mode == "max" else -value
        return sorted(scores, key=lambda step: (scores[step], step), reverse=True)

    def steps(self) -> list[int]:
        """Return the stored steps in ascending order."""
        return self._folders.numbers() if self._own is None else sorted(self._own)

    def latest(self) -> int | None:
        """Return the last step that training can resume from; None if nothing is stored.

        Raises UserError if all checkpoints are damaged.
        """
        steps = self.steps()
        if not steps:
            return None
        found = self._first_sound(steps[::-1])
        if self._own is not None:  # later steps are saved again
            self._own = {step: metrics for step, metrics in self._own.items() if step <= found}
        return found

    def best(self) -> int | None:
        """Return the step with the best metric; the latest one if no checkpoint has the metric."""
        return self._in_order("best") if self.steps() else None

    def _in_order(self, step: str) -> int:
        """Return `best` or `latest`; if it is damaged, the next one."""
        while True:
            steps = self.steps()
            ranked = self._by_score(steps) if step == "best" else []
            found = self._first_sound([*ranked, *steps[::-1]], READ)
            if steps == self.steps():  # else the run was saved meanwhile
                return found

    def find(self, step: str | int) -> int:
        """Return the number of step `latest`, `best` or N.

        Raises FileNotFoundError if it is missing, and UserError if it is damaged.
        """
        steps = self.steps()
        if not steps:
            raise FileNotFoundError(f"{self.folder}: no checkpoint found; train a model first")
        if step in ("latest", "best"):
            return self._in_order(str(step))
        if not str(step).isdecimal() or int(step) not in steps:
            stored = ", ".join(map(str, steps))
            raise FileNotFoundError(
                f"{self.folder}: no checkpoint {step!r}; expected one of latest, best, {stored}"
            )
        return self._first_sound([int(step)], READ)

    def _first_sound(self, steps: Sequence[int], items: Sequence[str] = RESUMED) -> int:
        """Return the first step whose items are not damaged, and log those before it.

        Raises UserError if all are damaged.
        """
        faults: list[str] = []
        for step in steps:
            if not (fault := self._fault(step, items)):
                if faults and faults[0] not in _reported:
                    _reported.update(faults)
                    _log.warning("%s; step %d is used", "; ".join(faults), step)
                return step
            faults.append(f"{self._folders.folder(step)}: damaged checkpoint ({fault})")
        raise UserError(f"{'; '.join(faults)}; restore it from a copy or use another step")

    def _fault(self, step: int, items: Sequence[str]) -> str:
        """Return what is damaged in a step's items, or ''. Each item is checked once."""
        folder = self._folders.folder(step)
        for item in items:
            if (step, item) not in self._damage:
                fault = find_damage(folder, item)
                if fault and not folder.exists():
                    raise FileNotFoundError(f"{folder}: deleted meanwhile")
                self._damage[step, item] = fault
            if self._damage[step, item]:
                return self._damage[step, item]
        return ""

    def read(self, step: str | int = "best") -> Stored:
        """Return what prediction requires of a checkpoint, all of the same step.

        A checkpoint that training deletes meanwhile is replaced by its successor. Raises
        FileNotFoundError if there is none, and UserError if it is damaged.
        """
        for _ in range(20):
            found = None
            try:
                found = self.find(step)
                metadata = self._read_record(found)["metadata"]
                return Stored(found, metadata, self._read_arrays(found, "variables"))
            except FileNotFoundError:
                if found is None and (not self.steps() or step not in ("latest", "best")):
                    raise
        raise FileNotFoundError(f"{self.folder}: checkpoints are deleted faster than they are read")

    def metrics(self, step: str | int) -> dict[str, float]:
        """Return the metrics of a checkpoint; empty if it was not validated."""
        return dict(self._metrics_of(self.find(step)))

    def awaits_metrics(self, step: int) -> bool:
        """Return whether a checkpoint was saved for a validation that has not been completed."""
        return bool(self._read_record(step).get("awaits_metrics")) and not self._metrics_of(step)

    def logged(self, step: int) -> list[Any]:
        """Return `logged` as passed to `save`."""
        return self._read_record(step).get("logged", [])

    def digest(self, step: int) -> str:
        """Return the SHA-256 of the digests of a checkpoint; '' if it was stored without them."""
        path = self._folders.folder(step) / DIGESTS
        return file_digest(path) if path.is_file() else ""

    def metadata(self, step: str | int = "latest") -> dict[str, Any]:
        """Return the metadata of a checkpoint as read from JSON: tuples have become lists."""
        return self._read_record(self.find(step))["metadata"]

    def stage(self, step: str | int = "latest") -> int:
        """Return the index of the stage whose optimizer state a checkpoint contains."""
        return self._read_record(self.find(step))["stage"]

    def _read_record(self, step: int) -> dict[str, Any]:
        file = self._folders.folder(step) / "record/metadata"
        with self._reading(step):
            content = file.read_bytes()
        record: Any = None
        with suppress(ValueError):
            record = json.loads(content)
        required = {"metadata", "stage", "best_metric", "best_mode"}
        is_record = isinstance(record, dict) and required <= record.keys()
        if not is_record or not isinstance(record["metadata"], dict):
            # A digest does not prevent this: a stranger can write both.
            raise UserError(f"{file}: not the record of a checkpoint; use another step")
        return record

    def restore_variables(self, step: str | int = "best") -> Variables:
        """Return a checkpoint's variables as nested dicts of NumPy arrays; no model is needed.

        If the run averages its parameters, these are the averages.
        """
        return self.read(step).variables

    def restore_item(self, step: str | int, item: str) -> Any:
        """Return `raw` (the parameters before averaging) or `balance` (the state of loss balancing)
        as NumPy arrays; None if the checkpoint does not have it.
        """
        found = self.find(step)
        stored = (self._folders.folder(found) / item).is_dir()
        return self._read_arrays(found, item) if stored else None

    def _read_arrays(self, step: int, item: str) -> Any:
        """Return an item's arrays as NumPy arrays."""
        with self._reading(step):
            return read_arrays(self._folders.folder(step) / item)

    @contextmanager
    def _reading(self, step: int) -> Iterator[None]:
        """Raise FileNotFoundError if a checkpoint is deleted while it is read, and UserError if it
        cannot be read: a digest does not prevent this, because a stranger can write both.
        """
        folder = self._folders.folder(step)
        try:
            yield
        except Exception as error:
            if not folder.exists():
                raise FileNotFoundError(f"{folder}: deleted while it was read") from None
            first = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
            raise UserError(f"{folder}: cannot be read ({first}); use another step") from None
