"""Checkpoints: the latest and the best state of a run. The only module that uses Orbax."""

import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from mtl_jax.errors import UserError
from mtl_jax.training.state import TrainState
from mtl_jax.types import Variables

# Orbax writes to a temporary folder and renames it when it is complete. A checkpoint is moved to
# this folder before it is deleted. Therefore a folder named by a number is always complete, even
# after the process was killed.
DELETED = "deleted"


class Checkpointer:
    """The checkpoints in a folder, `RUN/checkpoints`, by the number of completed steps.

    `metadata` is any JSON value (resolved config, class names, attribute declarations). It is
    stored in each checkpoint, so that readers require no other file. The latest checkpoint is kept,
    and the one with the best value of the metric `best_metric` (`best_mode` max or min; the later
    one of equals). To only read checkpoints, pass just the folder.
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
        self._user_metadata = metadata
        self.best_metric, self._best_mode = best_metric, best_mode
        self._manager = self._make_manager()
        if metadata is not None:
            self._empty_trash()
        elif self.steps():
            stored = self._read_record(self.steps()[-1])
            self.best_metric, self._best_mode = stored["best_metric"], stored["best_mode"]

    def _make_manager(self) -> ocp.CheckpointManager:
        writes = self._user_metadata is not None
        policies = checkpoint_managers
        best = policies.BestN(
            get_metric_fn=self._score, n=1, keep_checkpoints_without_metrics=False
        )
        keep = policies.AnyPreservationPolicy([policies.LatestN(1), best])
        options = ocp.CheckpointManagerOptions(
            best_fn=self._score,
            preservation_policy=keep,
            todelete_subdir=DELETED,
            create=writes,
            cleanup_tmp_directories=writes,
            # When a save returns, the checkpoint is on the disk.
            enable_async_checkpointing=False,
        )
        handlers = {
            "variables": ocp.StandardCheckpointHandler(),
            "raw": ocp.StandardCheckpointHandler(),  # parameters, if the variables are averaged
            "optimizer": ocp.StandardCheckpointHandler(),
            "balance": ocp.StandardCheckpointHandler(),  # of loss balancing, if it has a state
            "record": ocp.JsonCheckpointHandler(),
        }
        return ocp.CheckpointManager(self.folder, options=options, item_handlers=handlers)

    def _score(self, metrics: Mapping[str, float]) -> float:
        value = float(metrics.get(self.best_metric, math.nan))
        if math.isnan(value):
            return -math.inf
        return value if self._best_mode == "max" else -value

    def steps(self) -> list[int]:
        """Return the stored steps in ascending order."""
        return sorted(self._manager.all_steps())

    def latest(self) -> int | None:
        """Return the last stored step; None if there is none."""
        return max(self.steps(), default=None)

    def best(self) -> int | None:
        """Return the step with the best metric; the latest one if no checkpoint has the metric."""
        scores = {}
        for step in self.steps():
            score = self._score(self._manager.metrics(step) or {})
            if score > -math.inf:
                scores[step] = score
        return max(scores, key=lambda step: (scores[step], step)) if scores else self.latest()

    def find(self, step: str | int) -> int:
        """Return the number of step `latest`, `best` or N. Raises FileNotFoundError if missing."""
        if not self.steps():
            raise FileNotFoundError(f"{self.folder}: no checkpoint found; run `train.py` first")
        named = {"latest": self.latest, "best": self.best}.get(str(step), lambda: None)()
        if named is not None:
            return named
        if not str(step).isdecimal() or int(step) not in self.steps():
            stored = ", ".join(map(str, self.steps()))
            raise FileNotFoundError(
                f"{self.folder}: no checkpoint {step!r}; expected one of latest, best, {stored}"
            )
        return int(step)

    def metrics(self, step: str | int) -> dict[str, float]:
        """Return the metrics saved with a checkpoint."""
        return dict(self._manager.metrics(self.find(step)) or {})

    def metadata(self, step: str | int = "latest") -> dict[str, Any]:
        """Return the metadata of a checkpoint as read from JSON: tuples have become lists."""
        return self._read_record(self.find(step))["metadata"]

    def stage(self, step: str | int = "latest") -> int:
        """Return the index of the stage whose optimizer state a checkpoint contains."""
        return self._read_record(self.find(step))["stage"]

    def _read_record(self, step: int) -> dict[str, Any]:
        return self._manager.restore(step, args=ocp.args.Composite(record=ocp.args.JsonRestore()))[
            "record"
        ]

    def save(
        self,
        state: TrainState,
        step: int,
        metrics: Mapping[str, float] | None = None,
        stage: int = 0,
    ) -> None:
        """Save a state and return when it is on the disk.

        Checkpoints that are neither the latest nor the best are deleted. Raises UserError if the
        disk is full or `metrics` does not contain the best metric, and ValueError after a
        non-finite loss or if the Checkpointer only reads.
        """
        if self._user_metadata is None:
            raise ValueError("a Checkpointer requires metadata to save")
        if not bool(state.finite):
            raise ValueError(f"the state of step {step} cannot be saved: its loss is not finite")
        if metrics is not None and self.best_metric and self.best_metric not in metrics:
            raise UserError(
                f"config.eval.best_metric must be one of {', '.join(sorted(metrics))}, "
                f"got {self.best_metric!r}"
            )
        self._check_room(state, step)
        record = {
            "metadata": dict(self._user_metadata),
            "stage": stage,
            "best_metric": self.best_metric,
            "best_mode": self._best_mode,
        }
        optimizer = {"step": state.step, "opt_state": state.opt_state}
        items: dict[str, Any] = {
            "variables": ocp.args.StandardSave(state.model_variables),
            "optimizer": ocp.args.StandardSave(optimizer),
            "record": ocp.args.JsonSave(record),
        }
        if state.average is not None:
            items["raw"] = ocp.args.StandardSave(state.params)
        if state.balance:
            items["balance"] = ocp.args.StandardSave(state.balance)
        self._manager.save(
            step,
            args=ocp.args.Composite(**items),
            metrics={name: float(value) for name, value in (metrics or {}).items()},
            force=True,
        )
        self._empty_trash()

    def _check_room(self, state: TrainState, step: int) -> None:
        # After an error because of a full disk, every later save of Orbax fails as well.
        needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        disk = shutil.disk_usage(self.folder)
        if disk.free < needed and disk.total:  # 0 if the file system does not report it
            latest = self.latest()
            resume = "" if latest is None else f" to resume after step {latest}"
            raise UserError(
                f"{self.folder}: the checkpoint of step {step} requires {needed / 1e6:.1f} MB, but "
                f"the disk has {disk.free / 1e6:.1f} MB free; free space and start again{resume}"
            )

    def _empty_trash(self) -> None:
        if jax.process_index() == 0:
            shutil.rmtree(self.folder / DELETED, ignore_errors=True)

    def restore(self, step: str | int, target: TrainState) -> TrainState:
        """Return the state of a checkpoint, with the shapes and shardings of `target`.

        The number of devices may differ from that of the run that saved it.
        """
        found = self.find(step)
        optimizer = {"step": target.step, "opt_state": target.opt_state}
        items = {
            "variables": ocp.args.StandardRestore(_abstract(target.model_variables)),
            "optimizer": ocp.args.StandardRestore(_abstract(optimizer)),
        }
        if target.average is not None:
            items["raw"] = ocp.args.StandardRestore(_abstract(target.params))
        if target.balance:
            items["balance"] = ocp.args.StandardRestore(_abstract(target.balance))
        restored = self._manager.restore(found, args=ocp.args.Composite(**items))
        variables, optimizer = restored["variables"], restored["optimizer"]
        averaged = target.average is not None
        return TrainState(
            optimizer["step"],
            restored["raw"] if averaged else variables["params"],
            variables["batch_stats"],
            optimizer["opt_state"],
            target.finite,
            variables["params"] if averaged else None,
            restored["balance"] if target.balance else target.balance,
        )

    def restore_variables(self, step: str | int = "best") -> Variables:
        """Return a checkpoint's variables as nested dicts of NumPy arrays; no model is needed.

        If the run averages its parameters, these are the averages.
        """
        return self._read_arrays(self.find(step), "variables")

    def restore_raw(self, step: str | int) -> Any:
        """Return the parameters before averaging, as NumPy arrays; None without averaging."""
        found = self.find(step)
        return self._read_arrays(found, "raw") if self._has(found, "raw") else None

    def restore_balance(self, step: str | int) -> Any:
        """Return the state of loss balancing, as NumPy arrays; empty if there is none."""
        found = self.find(step)
        return self._read_arrays(found, "balance") if self._has(found, "balance") else {}

    def _has(self, step: int, item: str) -> bool:
        return self._manager.item_metadata(step).get(item) is not None

    def _read_arrays(self, step: int, item: str) -> Any:
        described = self._manager.item_metadata(step)[item]
        tree = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), described.tree)
        args = ocp.args.Composite(**{item: ocp.args.StandardRestore(tree)})
        return self._manager.restore(step, args=args)[item]

    def close(self) -> None:
        """Close the folder."""
        self._manager.close()


def _abstract(tree: Any) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)
