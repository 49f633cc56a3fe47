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

    @property
    def variables(self) -> Variables:
        return {"params": self.params, "batch_stats": self.batch_stats}


def start_stage(
    variables: Variables,
    optimizer: optax.GradientTransformation,
    mask: Any,
    mesh: Mesh,
    step: int = 0,
) -> TrainState:
    """Give the state in which a stage starts at `step`, its optimizer fresh.

    The state is a copy on every device of the mesh, so that donating it does not take `variables`
    away.
    """
    copied = replicate({"batch_stats": {}, **variables}, mesh)
    init = jax.jit(optimizer.init, out_shardings=replicated(mesh))
    opt_state = init(partition(copied["params"], mask)[0])
    counters = replicate((jnp.int32(step), jnp.bool_(True)), mesh)
    return TrainState(counters[0], copied["params"], copied["batch_stats"], opt_state, counters[1])
