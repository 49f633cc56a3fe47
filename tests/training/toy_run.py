"""Train the toy model in a folder, as an entry point does; with AT, send SIGNAL at that step.

python toy_run.py RUN LOG_EVERY [AT SIGNAL]
"""

import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
from training.toy import file_names, init, make_batch, make_batches, make_model

from mtl_jax.config.options.training import LoopOptions, OptimizerOptions, Stage
from mtl_jax.io import stop_signals
from mtl_jax.training.checkpoint import Checkpointer
from mtl_jax.training.compilation_cache import enable_compilation_cache
from mtl_jax.training.loop import fit
from mtl_jax.training.metric_writer import MetricWriter
from mtl_jax.training.sharding import make_mesh
from mtl_jax.training.step import make_eval_loss
from mtl_jax.types import Batch

STAGES = (Stage("heads", 6, 0.01), Stage("4+", 9))
OPTIMIZER = OptimizerOptions(
    name="adamw", learning_rate=0.003, clip_norm=1.0, schedule="cosine", warmup_steps=3
)
LOOP = LoopOptions(batch_size=4, seed=3, ema=0.9, log_every=1, eval_every=5, checkpoint_every=4)


def main(run: Path, log_every: int, at: int = -1, number: int = signal.SIGKILL) -> None:
    def batches(start: int) -> Iterator[Batch]:
        for step, batch in enumerate(make_batches(7)(start), start):
            if step == at:
                os.kill(os.getpid(), number)
                while not stop_signals.received():
                    time.sleep(0.01)
            yield batch

    mesh = make_mesh()
    model = make_model()
    eval_loss = make_eval_loss(model, mesh)
    checkpointer = Checkpointer(run / "checkpoints", {"a": 1}, "val/loss", "min")
    state = fit(
        model,
        init(1),
        STAGES,
        OPTIMIZER,
        batches,
        lambda variables, step: {"val/loss": eval_loss(variables, [make_batch(9, 0)])["loss"]},
        checkpointer,
        MetricWriter(run, sum(stage.steps for stage in STAGES)),
        mesh,
        replace(LOOP, log_every=log_every),
        file_names,
    )
    leaves = jax.tree_util.tree_leaves_with_path(state._asdict())
    np.savez(run / "final.npz", **{jax.tree_util.keystr(k): np.asarray(v) for k, v in leaves})


if __name__ == "__main__":
    enable_compilation_cache()
    # A shell ignores SIGINT in its background jobs, and this process inherits that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    stop_signals.catch_signals()
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
