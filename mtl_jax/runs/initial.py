"""Initial variables of a training run."""

import logging

import jax
import numpy as np

from mtl_jax.convert.model_files import find_model
from mtl_jax.errors import UserError
from mtl_jax.images.resize import resize_geometry
from mtl_jax.runs.loading import read_checkpoint
from mtl_jax.runs.setup import Setup
from mtl_jax.training.transfer import format_table, transfer
from mtl_jax.types import Inputs, Variables

_log = logging.getLogger(__name__)


def initial_variables(setup: Setup, seed: int, new: bool = True) -> Variables:
    """Initialize a model; for a `new` run, load `config.init.checkpoint` if it is set.

    It is a run folder, a one-file model, or the name or address of one, see `find_model`. Prints a
    table of the loaded parameters. Raises UserError if the checkpoint cannot be used.
    """
    init = setup.experiment.init
    try:  # first: initialisation takes longer
        path = find_model(init.checkpoint, whole=False) if init.checkpoint and new else None
    except UserError as error:
        raise UserError(f"config.init.checkpoint: {error}") from None
    variables = jax.jit(setup.model.init)(jax.random.key(seed), _any_inputs(setup))
    if path is None:
        return variables
    try:
        metadata, loaded = read_checkpoint(path, init.step)
        changed = setup.changed_outputs(metadata)
        variables, rows = transfer(variables, loaded, [*init.exclude, *changed])
    except UserError as error:
        raise UserError(f"config.init.checkpoint {init.checkpoint}: {error}") from None
    print(format_table(rows))
    if changed := setup.changed_computation(metadata):
        _log.warning(
            "config.init.checkpoint %s was trained with %s, which this config changes",
            init.checkpoint,
            " ".join(changed),
        )
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
