"""Checkpoints: the latest two states of a run and the best. The only module that uses Orbax."""

import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from mtl_jax.errors import UserError
from mtl_jax.io.atomic import require_room, write_json
from mtl_jax.io.digests import (
    find_damage,
    has_digests,
    read_checked_json,
    write_checked_json,
    write_digests,
)
from mtl_jax.io.numbered_folders import NumberedFolders
from mtl_jax.io.silence import silenced
from mtl_jax.training.sharding import wait_for_hosts
from mtl_jax.training.state import TrainState
from mtl_jax.types import Variables

_log = logging.getLogger(__name__)
METRICS = "metrics.json"  # added after the checkpoint, hence with its own digest
READ = ("variables", "record")  # the items that prediction requires
RESUMED = (*READ, "optimizer", "raw", "balance")  # those that training requires
# Upper limits of what Orbax writes besides the arrays, measured with 1 to 300 arrays.
ITEM_BYTES, ARRAY_BYTES = 2**17, 2**12
_reported: set[str] = set()  # damages that were logged


class Stored(NamedTuple):
    """What prediction requires of a checkpoint."""

    step: int
    metadata: dict[str, Any]
    variables: Variables


class Checkpointer:
    """The checkpoints in a folder, `RUN/checkpoints`, by the number of completed steps.

    `metadata` is any JSON value (resolved config, class names, attribute declarations). It is
    stored in each checkpoint, so that readers require no other file. The latest two checkpoints are
    kept, and the one with the best value of the metric `best_metric` (`best_mode` max or min; the
    later one of equals). To only read checkpoints, pass just the folder; training may continue.

    Each file has a digest. `latest` and `best` skip damaged checkpoints, with a warning.
    """

    def __init__(
        self,
        folder: str | Path,
        metadata: Mapping[str, Any] | None = None,
        best_metric: str = "",
        best_mode: str = "max",
    ):
        if best_mode not in ("max", "min"):
            raise ValueError(f"best_mode must be max or min, got {best_mode!r}")
        self.folder = Path(folder).absolute()
        self._folders = NumberedFolders(self.folder)
        self._user_metadata = metadata
        self.best_metric, self._best_mode = best_metric, best_mode
        self._handler = ocp.StandardCheckpointHandler()
        self._arrays = ocp.Checkpointer(self._handler)
        self._damage: dict[tuple[int, str], str] = {}  # of each item; '': none
        # The metrics of each step of a run in training, equal on all hosts; None: read from disk.
        self._own: dict[int, dict[str, float]] | None = None
        if metadata is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._own = {step: self._read_metrics(step) for step in self._folders.numbers()}
            if jax.process_index() == 0:
                self._folders.clean()

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
            raise FileNotFoundError(f"{self.folder}: no checkpoint found; run `train.py` first")
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

    def save(
        self,
        state: TrainState,
        step: int,
        stage: int = 0,
        awaits_metrics: bool = False,
        logged: Sequence[Any] = (),
    ) -> None:
        """Save a state and return when it is on the disk; `logged` is any JSON value.

        With `awaits_metrics`, a validation follows, whose result is passed to `add_metrics`. Raises
        UserError if the disk is full, and ValueError after a non-finite loss or if the Checkpointer
        only reads.
        """
        if self._own is None:
            raise ValueError("a Checkpointer requires metadata to save")
        if not bool(state.finite):
            raise ValueError(f"the state of step {step} cannot be saved: its loss is not finite")
        record = {
            "metadata": dict(self._user_metadata or {}),
            "stage": stage,
            "best_metric": self.best_metric,
            "best_mode": self._best_mode,
            "awaits_metrics": awaits_metrics,
            "logged": list(logged),
        }
        items: dict[str, Any] = {
            "variables": state.model_variables,
            "optimizer": {"step": state.step, "opt_state": state.opt_state},
        }
        if state.average is not None:
            items["raw"] = state.params
        if state.balance:
            items["balance"] = state.balance
        needed = sum(leaf.nbytes + ARRAY_BYTES for leaf in jax.tree.leaves(items))
        needed += ITEM_BYTES * (len(items) + 1) + 2 * len(json.dumps(record))
        before = [other for other in self.steps() if other != step]
        remedy = f"start again{f' to resume after step {before[-1]}' if before else ''}"
        with require_room(self.folder, needed, f"the checkpoint of step {step}", remedy):
            self._write(items, record, step)
        self._own[step] = {}
        self._damage |= {(step, item): "" for item in RESUMED}
        self._delete_others()

    def _write(self, items: Mapping[str, Any], record: Mapping[str, Any], step: int) -> None:
        """Write a checkpoint as a draft and rename it."""
        draft, first = self._folders.draft(step), jax.process_index() == 0
        try:
            if first:
                self._folders.clean()
                draft.mkdir(parents=True)
            with silenced("absl"):  # Orbax logs a traceback for each of its threads
                for name, tree in items.items():  # waits for the other hosts
                    self._arrays.save(draft / name, args=ocp.args.StandardSave(tree))
            if first:
                write_json(draft / "record/metadata", record, readable=False)
                write_digests(draft)
                self._folders.commit(step)
        finally:
            if first:
                self._folders.clean()
        wait_for_hosts(f"saved {step}")

    def add_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Store the metrics of a saved step. Raises UserError if the best metric is missing."""
        if self._own is None:
            raise ValueError("a Checkpointer requires metadata to save")
        if self.best_metric and self.best_metric not in metrics:
            raise UserError(
                f"config.eval.best_metric must be one of {', '.join(sorted(metrics))}, "
                f"got {self.best_metric!r}"
            )
        values = {name: float(value) for name, value in metrics.items()}
        if jax.process_index() == 0:
            write_checked_json(self._folders.folder(step) / METRICS, values)
        self._own[step] = values
        self._delete_others()
        wait_for_hosts(f"metrics {step}")

    def _delete_others(self) -> None:
        """Delete the checkpoints that are neither the best nor one of the latest two."""
        assert self._own is not None
        steps = sorted(self._own)
        kept = {*steps[-2:], *self._by_score(steps)[:1]}
        self._own = {step: metrics for step, metrics in self._own.items() if step in kept}
        if jax.process_index() == 0:
            for step in self._folders.numbers():
                # A later one is damaged; it is kept until training has reached it again.
                if step not in kept and step < steps[-1]:
                    self._folders.delete(step)

    def restore(self, step: str | int, target: TrainState) -> TrainState:
        """Return the state of a checkpoint, with the shapes and shardings of `target`.

        The number of devices may differ from that of the run that saved it. Raises UserError if it
        is damaged.
        """
        found = self._first_sound([self.find(step)])

        def read(item: str, tree: Any) -> Any:
            return self._read_arrays(found, item, jax.tree.map(_abstract, tree))

        variables = read("variables", target.model_variables)
        optimizer = read("optimizer", {"step": target.step, "opt_state": target.opt_state})
        averaged = target.average is not None
        return TrainState(
            optimizer["step"],
            read("raw", target.params) if averaged else variables["params"],
            variables["batch_stats"],
            optimizer["opt_state"],
            target.finite,
            variables["params"] if averaged else None,
            read("balance", target.balance) if target.balance else target.balance,
        )

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

    def _read_arrays(self, step: int, item: str, target: Any = None) -> Any:
        """Return an item's arrays like those of `target`; by default, NumPy arrays."""
        with self._reading(step), silenced("absl"):
            path = self._folders.folder(step) / item
            if target is None:
                described: Any = self._handler.metadata(path)  # pyright: ignore
                target = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), described.tree)
            return self._arrays.restore(path, args=ocp.args.StandardRestore(target))

    @contextmanager
    def _reading(self, step: int) -> Iterator[None]:
        """Raise FileNotFoundError if a checkpoint is deleted while it is read, and UserError if one
        without digests cannot be read.
        """
        folder = self._folders.folder(step)
        try:
            yield
        except Exception as error:
            if not folder.exists():
                raise FileNotFoundError(f"{folder}: deleted while it was read") from None
            if has_digests(folder):  # it is not damaged
                raise
            first = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
            raise UserError(f"{folder}: cannot be read ({first}); use another step") from None

    def close(self) -> None:
        """Close the folder."""
        self._arrays.close()


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
