"""What training carries from one step to the next."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from mtl_jax.training.sharding import replicate, replicated
from mtl_jax.training.stages import partition
from mtl_jax.types import Array, Variables


class TrainState(NamedTuple):
    """All of a run but its options. A train step takes it over: keep no reference to an old one."""

    step: Array  # int32 scalar: steps done since the start of the run
    params: Any
    batch_stats: Any
    opt_state: optax.OptState  # of the parameters that the stage trains
    finite: (
        Array  # bool scalar: False from the first non-finite step on, and nothing changes any more
    )
    average: Any = None  # of the parameters over the steps; None: there is none
    balance: Any = None  # what the balance between tasks carries on; None: it is fixed

    @property
    def variables(self) -> Variables:
        """What the next step starts from."""
        return {"params": self.params, "batch_stats": self.batch_stats}

    @property
    def model_variables(self) -> Variables:
        """What is validated, kept and loaded: with the average where there is one."""
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
    """Give the state in which a stage starts at `step`, its optimizer fresh, with an `average` of
    the parameters and a `balance` between tasks that go on.

    The state is a copy on every device of the mesh, so that donating it does not take `variables`
    away.
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
