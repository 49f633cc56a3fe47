"""The state of training, passed from step to step."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from mtl_jax.training.sharding import replicate, replicated
from mtl_jax.training.stages import partition
from mtl_jax.types import Array, Variables


class TrainState(NamedTuple):
    """The state of a run. A training step donates it: an old state must not be used again."""

    step: Array  # int32 scalar: steps completed since the start of the run
    params: Any
    batch_stats: Any
    opt_state: optax.OptState  # of the parameters that the stage trains
    finite: Array  # bool scalar: False after a non-finite step; the state then stays unchanged
    average: Any = None  # moving average of the parameters; None: not computed
    balance: Any = None  # state of loss balancing; None: fixed weights

    @property
    def variables(self) -> Variables:
        """The variables that the next step starts from."""
        return {"params": self.params, "batch_stats": self.batch_stats}

    @property
    def model_variables(self) -> Variables:
        """The variables to validate, save and load: with the average if there is one."""
        return {**self.variables, "params": self.params if self.average is None else self.average}


def start_stage(
    variables: Variables,
    optimizer: optax.GradientTransformation,
    mask: Any,
    mesh: Mesh,
    step: int = 0,
    average: Any = None,
    balance: Any = None,
) -> TrainState:
    """Return the state at the start of a stage, with a new optimizer state.

    `step` is the number of steps completed before; `average` and `balance` are the values after
    these steps. The state is a copy on every device of the mesh, so that donating it does not
    invalidate `variables`.
    """
    copied = replicate({"batch_stats": {}, **variables}, mesh)
    init = jax.jit(optimizer.init, out_shardings=replicated(mesh))
    opt_state = init(partition(copied["params"], mask)[0])
    counters = replicate((jnp.int32(step), jnp.bool_(True)), mesh)
    return TrainState(
        counters[0],
        copied["params"],
        copied["batch_stats"],
        opt_state,
        counters[1],
        None if average is None else replicate(average, mesh),
        None if balance is None else replicate(balance, mesh),
    )
