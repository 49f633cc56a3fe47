"""The training loop: stages of steps, with logging, validation and checkpoints between them."""

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import jax
import optax
from jax.sharding import Mesh

from mtl_jax.config.options.training import LoopOptions, OptimizerOptions, Stage
from mtl_jax.errors import UserError
from mtl_jax.io import stop_signals
from mtl_jax.training.checkpoint import Checkpointer
from mtl_jax.training.gradient_balancing import make_balancing
from mtl_jax.training.metric_writer import MetricWriter
from mtl_jax.training.optimizer import learning_rate_schedule, make_optimizer
from mtl_jax.training.sharding import replicated_key, shard_batch
from mtl_jax.training.stages import trainable
from mtl_jax.training.state import TrainState, start_stage
from mtl_jax.training.step import make_train_step
from mtl_jax.training.step_logger import FileNames, StepLogger
from mtl_jax.types import Array, Batch, Model, Variables

Validate = Callable[[Variables, int], Mapping[str, float]]


def fit(
    model: Model,
    variables: Variables,
    stages: Sequence[Stage],
    optimizer_options: OptimizerOptions,
    batches: Callable[[int], Iterator[Batch]],
    validate: Validate | None,
    checkpointer: Checkpointer,
    writer: MetricWriter,
    mesh: Mesh,
    options: LoopOptions,
    file_names: FileNames,
) -> TrainState:
    """Train the remaining stages and return the last state.

    Training resumes from the latest checkpoint if there is one. `batches(step)` iterates over the
    batches from that step on. Each batch must depend only on its step; then a run that was killed
    and resumed ends with the same bits as an uninterrupted one. `variables` are the initial
    variables of a new run and are not modified. A state is saved before it is validated, and before
    an exception of `batches` is raised. With `io.stop_signals`, also when a signal is received.
    Raises NonFiniteLossError, which names the term, the step and, by `file_names(index)`, the
    images.
    """
    borders = tuple(pairwise(accumulate((stage.steps for stage in stages), initial=0)))
    total = borders[-1][1]
    done = checkpointer.latest() or 0
    number = _stage_of(done, borders)
    optimizers = [_build(stage, optimizer_options) for stage in stages]
    masks = [trainable(variables["params"], stage.layers) for stage in stages]
    balancing = make_balancing(options.balance, options.balancing, model, variables)
    state = _first_state(
        variables,
        checkpointer,
        optimizers[number][0],
        masks[number],
        mesh,
        number,
        borders[number][0],
        averaged=options.ema > 0,
        balance=None if balancing is None else balancing.balance.init(),
    )
    key = replicated_key(options.seed, mesh)
    iterator = batches(done) if done < total else iter(())
    logger = StepLogger(writer, file_names, total, options.log_every)
    keeper = _Keeper(checkpointer, writer, logger, validate)
    writer.start(done, keeper.awaits_validation(done))
    try:
        keeper.resume(state, done)
        if _has_waited(checkpointer, done, options):
            return state
        for stage in range(number, len(stages)):
            first, last = borders[stage]
            optimizer, schedule = optimizers[stage]
            if stage > number:
                state = start_stage(
                    state.variables,
                    optimizer,
                    masks[stage],
                    mesh,
                    first,
                    state.average,
                    state.balance,
                )
            train_step = make_train_step(
                model,
                optimizer,
                masks[stage],
                schedule,
                mesh,
                first,
                options.ema,
                balancing,
                options.accumulate,
            )
            for step in range(max(first, done) + 1, last + 1):
                try:
                    batch = next(iterator)
                except Exception:
                    keeper.save_early(state, step - 1, stage)
                    raise
                state, metrics = train_step(state, shard_batch(batch, mesh), key)
                keeper.hold_signals()
                logger.add(step, metrics, batch)
                validates = step == total or _is_due(step, options.eval_every)
                if validates or step == last or _is_due(step, options.checkpoint_every):
                    keeper.save(state, step, stage, validates)
                    if _has_waited(checkpointer, step, options):
                        return state
                elif stop_signals.received():
                    keeper.save_early(state, step, stage)
    finally:
        writer.close()
    return state


def _describe(name: str, value: float) -> str:
    if not math.isnan(value):
        return f"{name} {value:.4g}"
    missing = "objects" if "/AP" in name else "labels of detected objects"
    return f"{name} n/a (no {missing} in the validation split)"


class _Keeper(NamedTuple):
    """Saves states and validates them."""

    checkpointer: Checkpointer
    writer: MetricWriter
    logger: StepLogger
    validate: Validate | None

    def awaits_validation(self, done: int) -> bool:
        """Return whether a run stopped between a save and the end of its validation."""
        return self.validate is not None and done > 0 and self.checkpointer.awaits_metrics(done)

    def resume(self, state: TrainState, done: int) -> None:
        """Continue after `done` steps as an uninterrupted run does."""
        if done:
            self.logger.resume(self.checkpointer.logged(done))
        if self.awaits_validation(done):
            self._add_metrics(state, done)

    def save(self, state: TrainState, step: int, stage: int, validates: bool) -> None:
        """Save a state, exit if a signal was received, and validate the state if `validates`."""
        validates = validates and self.validate is not None
        self.logger.flush()
        self.checkpointer.save(state, step, stage, validates)
        self._exit_if_stopped(step)
        if validates:
            self._add_metrics(state, step)

    def save_early(self, state: TrainState, step: int, stage: int) -> None:
        """Save a state at a step where an uninterrupted run does not; exit if a signal was
        received.
        """
        if jax.process_count() == 1 and step > max(self.checkpointer.steps(), default=0):
            logged = self.logger.flush()
            self.checkpointer.save(state, step, stage, logged=logged)
        self._exit_if_stopped(step)

    def hold_signals(self) -> None:
        """Let signals wait until the next save.

        Several hosts cannot save for a signal, which only one of them may receive: it ends them.
        """
        if jax.process_count() == 1:
            stop_signals.hold()

    def _exit_if_stopped(self, step: int) -> None:
        if stop_signals.received():
            self.writer.print_line(f"stopped after step {step}; the same command continues")
        stop_signals.release()

    def _add_metrics(self, state: TrainState, step: int) -> None:
        assert self.validate is not None
        results = self.validate(state.model_variables, step)
        self.writer.write(step, results)
        names = (self.checkpointer.best_metric, "val/loss/loss")
        shown = (_describe(name, results[name]) for name in names if name in results)
        self.writer.print_line(f"step {step}: {', '.join(shown)}")
        self.checkpointer.add_metrics(step, results)


def _has_waited(checkpointer: Checkpointer, step: int, options: LoopOptions) -> bool:
    """Return whether the last `options.patience` validations did not improve; print it if so."""
    best = checkpointer.best() if options.patience else None
    if best is None or step - best < options.patience * options.eval_every:
        return False
    waited = f"{checkpointer.best_metric} did not improve in {options.patience} validations"
    print(f"stopped at step {step}: {waited}; the best step is {best}", file=sys.stderr)
    return True


def _is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _build(
    stage: Stage, options: OptimizerOptions
) -> tuple[optax.GradientTransformation, Callable[[Array], Array]]:
    rate = stage.learning_rate or options.learning_rate
    schedule = learning_rate_schedule(options, stage.steps, rate)
    return make_optimizer(options, schedule), schedule


def _stage_of(done: int, borders: Sequence[tuple[int, int]]) -> int:
    """Return the index of the next step's stage; the last stage if training is complete."""
    return next((i for i, (_, last) in enumerate(borders) if done < last), len(borders) - 1)


def _first_state(
    variables: Variables,
    checkpointer: Checkpointer,
    optimizer: optax.GradientTransformation,
    mask: Mapping,
    mesh: Mesh,
    stage: int,
    first: int,
    averaged: bool,
    balance: Any,
) -> TrainState:
    """Return the state of the latest checkpoint, or that of a new run.

    A checkpoint at the end of a stage contains that stage's optimizer state, which the next stage
    discards.
    """
    done = checkpointer.latest()
    if done is None or checkpointer.stage(done) == stage:
        average = variables["params"] if averaged else None
        new = start_stage(variables, optimizer, mask, mesh, average=average, balance=balance)
        return new if done is None else checkpointer.restore(done, new)
    if done == first:
        kept = checkpointer.restore_variables(done)
        raw = checkpointer.restore_item(done, "raw")
        started = kept if raw is None else {**kept, "params": raw}
        average = kept["params"] if averaged else None
        if balance is not None:
            balance = checkpointer.restore_item(done, "balance") or {}
        return start_stage(started, optimizer, mask, mesh, done, average, balance)
    raise UserError(
        f"{checkpointer.folder}: step {done} was trained in stage {checkpointer.stage(done) + 1}, "
        f"but config.stages has it in stage {stage + 1}; only change stages that are not complete"
    )
