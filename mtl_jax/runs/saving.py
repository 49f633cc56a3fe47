"""Creation of runs from variables that were not trained here."""

from pathlib import Path

from mtl_jax.config.options.training import OptimizerOptions
from mtl_jax.errors import UserError
from mtl_jax.io.atomic import write_json
from mtl_jax.runs.setup import Setup
from mtl_jax.training.checkpoint import Checkpointer
from mtl_jax.training.optimizer import make_optimizer
from mtl_jax.training.sharding import make_mesh
from mtl_jax.training.stages import trainable
from mtl_jax.training.state import start_stage
from mtl_jax.types import Variables


def save_run(workdir: Path, setup: Setup, variables: Variables) -> None:
    """Create a run from variables that were not trained here, as step 0.

    Raises UserError if `workdir` already contains a run.
    """
    if (workdir / "checkpoints").exists():
        raise UserError(f"{workdir}: already contains a run; use another --workdir")
    write_json(workdir / "config.json", setup.experiment.config)
    optimizer = make_optimizer(OptimizerOptions(), lambda step: 0.0)
    state = start_stage(variables, optimizer, trainable(variables["params"], "all"), make_mesh())
    checkpointer = Checkpointer(workdir / "checkpoints", setup.metadata)
    checkpointer.save(state, step=0)
    checkpointer.close()
