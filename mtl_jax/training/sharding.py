"""Data parallelism over one mesh of all devices: batches are split, states are replicated."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from mtl_jax.errors import UserError, listed
from mtl_jax.types import Array, Batch, Inputs

Tree = TypeVar("Tree")
Rows = TypeVar("Rows", Batch, Inputs)


def join_hosts() -> None:
    """Join the other hosts of the cluster. Must be called before any other function of jax.

    Raises UserError if jax detects no cluster.
    """
    # The service would take SIGTERM and let the training continue.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize()
    except ValueError as error:
        raise UserError(
            f"--hosts requires a cluster that jax detects; omit it on one host: {error}"
        ) from None


def wait_for_hosts(what: str) -> None:
    """Wait until all hosts have called this with the same text; no effect on one host."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


def gather(text: str) -> list[str]:
    """Return the text that each host passes, in the order of the hosts."""
    if jax.process_count() == 1:
        return [text]
    encoded = np.frombuffer(text.encode(), np.uint8)
    sizes = np.ravel(multihost_utils.process_allgather(np.int32(len(encoded))))
    padded = np.pad(encoded, (0, int(sizes.max()) - len(encoded)))
    rows = np.asarray(multihost_utils.process_allgather(padded))
    return [row[:size].tobytes().decode() for row, size in zip(rows, sizes, strict=True)]


@contextmanager
def agreement(folder: Path) -> Iterator[dict[str, str]]:
    """Yield a dict that the block fills, and check that it is equal on all hosts. Messages name
    `folder`.

    Raises UserError on every host if the values differ, or if the block raised an exception on one
    of them. No effect on one host.
    """
    facts: dict[str, str] = {}
    if jax.process_count() == 1:
        yield facts
        return
    failure: Exception | None = None
    try:
        yield facts
    except Exception as error:  # the others wait for this host
        failure = error
    said = "" if failure is None else (str(failure) or repr(failure)).splitlines()[0]
    every = [json.loads(text) for text in gather(json.dumps([said, facts]))]
    if failure is not None:
        raise failure
    for host, (other, _) in enumerate(every):
        if other:
            raise UserError(f"host {host}: {other}")
    for host, (_, other) in enumerate(every):
        if faults := list(_differences(every[0][1], other)):
            raise UserError(
                f"{folder}: hosts 0 and {host} differ in {listed(faults, 5)}; all hosts "
                "require the same config and data"
            )


def _differences(first: Mapping[str, str], other: Mapping[str, str]) -> Iterator[str]:
    for name in sorted(first.keys() | other.keys()):
        a, b = first.get(name, "none"), other.get(name, "none")
        if a != b:
            yield f"{name} ({a[:60]}, {b[:60]})"


def make_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """Build a mesh of one axis, `data`, over all devices of all hosts, or over `devices`."""
    # Explicit axes, the default of newer jax, break sampling under vmap.
    chosen = np.array(jax.devices() if devices is None else devices)
    return Mesh(chosen, ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """Return the sharding of an array that is replicated on every device."""
    return NamedSharding(mesh, PartitionSpec())


def replicate(tree: Tree, mesh: Mesh) -> Tree:
    """Copy a tree of arrays to every device. The copies share no memory with `tree`."""
    return jax.device_put(tree, replicated(mesh), may_alias=False)


def replicated_key(seed: int, mesh: Mesh) -> Array:
    """Return the random key of a seed, replicated on the devices of all hosts."""
    # `device_put` only reaches the devices of one host.
    return jax.jit(jax.random.key, static_argnums=0, out_shardings=replicated(mesh))(seed)


def shard_batch(batch: Rows, mesh: Mesh) -> Rows:
    """Split a batch over the mesh by its leading dimension.

    If its size is not a multiple of the mesh's, rows of zeros are added, with `valid` False and
    `index` -1. Every host must pass the same batch, and keeps the rows of its own devices.
    """
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    batch = pad_batch(batch, mesh.size)
    if jax.process_count() == 1:
        return jax.device_put(batch, sharding)
    return jax.tree.map(
        lambda x: jax.make_array_from_callback(x.shape, sharding, x.__getitem__), batch
    )


def pad_batch(batch: Rows, multiple: int) -> Rows:
    """Pad a NumPy batch to a multiple of `multiple` rows, with rows that are not valid."""
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
