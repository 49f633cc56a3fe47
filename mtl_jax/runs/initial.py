"""Initial variables of a training run."""

import jax
import numpy as np

from mtl_jax.errors import UserError
from mtl_jax.images.resize import resize_geometry
from mtl_jax.runs.loading import read_checkpoint
from mtl_jax.runs.setup import Setup
from mtl_jax.training.transfer import format_table, transfer
from mtl_jax.types import Inputs, Variables


def initial_variables(setup: Setup, seed: int, new: bool = True) -> Variables:
    """Initialize a model; for a `new` run, load `config.init.checkpoint` if it is set.

    Prints a table of the loaded parameters. Raises UserError if the checkpoint cannot be used.
    """
    variables = jax.jit(setup.model.init)(jax.random.key(seed), _any_inputs(setup))
    init = setup.experiment.init
    if not init.checkpoint or not new:
        return variables
    try:
        metadata, loaded = read_checkpoint(init.checkpoint, init.step)
        changed = setup.changed_outputs(metadata)
        variables, rows = transfer(variables, loaded, [*init.exclude, *changed])
    except UserError as error:
        raise UserError(f"config.init.checkpoint {init.checkpoint}: {error}") from None
    print(format_table(rows))
    for field in setup.changed_regions(metadata):
        print(f"{init.checkpoint} was trained with {field}, which this config changes")
    return variables


def variable_shapes(setup: Setup) -> Variables:
    """Return the shapes and dtypes of a model's variables without compiling it."""
    return jax.eval_shape(setup.model.init, jax.random.key(0), _any_inputs(setup))


def _any_inputs(setup: Setup) -> Inputs:
    """Return inputs of a shape that the model supports; initialisation reads no values."""
    data = setup.experiment.data
    padded, _ = resize_geometry(512, 512, data.resize)
    images = np.zeros((1, *padded, data.channels), data.resize.dtype)
    return Inputs(images, np.full((1, 2), padded, np.float32), np.ones(1, bool))
