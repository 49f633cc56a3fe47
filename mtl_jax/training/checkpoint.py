"""Checkpoints: the latest two states of a run and the best. Orbax writes and restores them."""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from mtl_jax.errors import UserError
from mtl_jax.io.atomic import require_room, write_json
from mtl_jax.io.digests import (
    write_checked_json,
    write_digests,
)
from mtl_jax.io.silence import silenced
from mtl_jax.training.sharding import agreement, wait_for_hosts
from mtl_jax.training.state import TrainState
from mtl_jax.training.stored.reader import METRICS, RESUMED, CheckpointReader

# Upper limits of what Orbax writes besides the arrays, measured with 1 to 300 arrays.
ITEM_BYTES, ARRAY_BYTES = 2**17, 2**12


class Checkpointer(CheckpointReader):
    """The checkpoints in a folder, to save and restore the states of training.

    `metadata` is any JSON value (resolved config, class names, attribute declarations). It is
    stored in each checkpoint, so that readers require no other file. The latest two checkpoints are
    kept, and the one with the best value of the metric `best_metric` (`best_mode` max or min; the
    later one of equals). Without metadata, checkpoints are only read. Each file has a digest.
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
        super().__init__(folder)
        self._user_metadata = metadata
        self.best_metric, self._best_mode = best_metric, best_mode
        self._arrays = ocp.Checkpointer(ocp.StandardCheckpointHandler())
        if metadata is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._own = {step: self._read_metrics(step) for step in self._folders.numbers()}
            if jax.process_index() == 0:
                self._folders.clean()

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
        with ExitStack() as stack:
            with agreement(self.folder):  # otherwise hosts wait for one that has no room
                what = f"the checkpoint of step {step}"
                stack.enter_context(require_room(self.folder, needed, what, remedy))
                if jax.process_index() == 0:
                    self._folders.start_draft(step)
            self._write(items, record, step)
        self._own[step] = {}
        self._damage |= {(step, item): "" for item in RESUMED}
        self._delete_others()

    def _write(self, items: Mapping[str, Any], record: Mapping[str, Any], step: int) -> None:
        """Write a checkpoint to its draft and rename it."""
        draft, first = self._folders.draft(step), jax.process_index() == 0
        try:
            with silenced("absl"):  # Orbax logs a traceback for each of its threads
                for name, tree in items.items():  # waits for the other hosts
                    self._arrays.save(draft / name, args=ocp.args.StandardSave(tree))
            with agreement(self.folder):
                if first:
                    write_json(draft / "record/metadata", record, readable=False)
                    write_digests(draft)
                    self._folders.commit(step)
        finally:
            if first:
                self._folders.clean()

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
            with self._reading(found), silenced("absl"):
                args = ocp.args.StandardRestore(jax.tree.map(_abstract, tree))
                return self._arrays.restore(self._folders.folder(found) / item, args=args)

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

    def close(self) -> None:
        """Close the folder."""
        self._arrays.close()


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
