"""One mesh over all devices: batches are split over it, states are copied."""

from collections.abc import Sequence
from typing import Any, TypeVar, cast

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from mtl_jax.errors import UserError
from mtl_jax.types import Array, Batch, Inputs

Tree = TypeVar("Tree")
Rows = TypeVar("Rows", Batch, Inputs)


def join_hosts() -> None:
    """Join the other hosts of a cluster that jax recognises; call it before all else of jax."""
    try:
        jax.distributed.initialize()
    except ValueError as error:
        raise UserError(f"--hosts: this is no cluster that jax recognises: {error}") from None


def make_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """Build a mesh of one axis, `data`, over all devices of all hosts, or over those given."""
    # Explicit axes, the default of newer jax, break sampling under vmap.
    chosen = np.array(jax.devices() if devices is None else devices)
    return Mesh(chosen, ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """Give the sharding of an array that every device holds in full."""
    return NamedSharding(mesh, PartitionSpec())


def replicate(tree: Tree, mesh: Mesh) -> Tree:
    """Copy a tree of arrays to every device. The copies share no memory with `tree`."""
    return jax.device_put(tree, replicated(mesh), may_alias=False)


def replicated_key(seed: int, mesh: Mesh) -> Array:
    """Give the random key of a seed on every device; `device_put` reaches one host's alone."""
    return jax.jit(jax.random.key, static_argnums=0, out_shardings=replicated(mesh))(seed)


def shard_batch(batch: Rows, mesh: Mesh) -> Rows:
    """Split a batch over the mesh by its leading dimension.

    Where the mesh does not divide it, rows of zeros are added, with `valid` False and `index` -1.
    With several hosts, each passes the same batch and takes the rows of its own devices.
    """
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    batch = pad_batch(batch, mesh.size)
    if jax.process_count() == 1:
        return jax.device_put(batch, sharding)
    return jax.tree.map(
        lambda x: jax.make_array_from_callback(x.shape, sharding, x.__getitem__), batch
    )


def pad_batch(batch: Rows, multiple: int) -> Rows:
    """Add rows that are not valid to a NumPy batch, up to a multiple of rows."""
    rows = len(batch.valid)
    missing = -rows % multiple
    if not missing:
        return batch

    def pad(x: np.ndarray) -> np.ndarray:
        return np.concatenate([x, np.zeros((missing, *x.shape[1:]), x.dtype)])

    padded = jax.tree.map(pad, batch)
    if isinstance(padded, Batch):
        padded.index[rows:] = -1
    return cast(Rows, padded)
