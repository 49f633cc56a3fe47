"""Agreement of all hosts of a cluster before the first step.

Without it, a host that fails leaves the others waiting for minutes, and a difference between their
configs or data goes unnoticed.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import jax

from mtl_jax.config.fields import flat_fields
from mtl_jax.data.datasets.sources import Opened
from mtl_jax.data.records import Source
from mtl_jax.errors import UserError
from mtl_jax.training.sharding import agreement, gather, join_hosts


def tell_hosts(error: UserError) -> None:
    """Join the other hosts, and raise an error of this host on all of them.

    If there is no cluster to join, the UserError says so, too.
    """
    try:
        join_hosts()
    except (UserError, RuntimeError) as alone:
        raise UserError(f"{error}\n{alone}") from None
    with agreement(Path()):
        raise error


def check_shared(workdir: Path) -> None:
    """Raise UserError unless all hosts have the same folder `workdir`. No effect on one host."""
    if jax.process_count() == 1:
        return
    token = workdir / f".{gather(uuid4().hex)[0]}"
    with agreement(workdir):
        if jax.process_index() == 0:
            token.touch()
    try:
        with agreement(workdir):
            if not token.exists():
                raise UserError(
                    f"{workdir}: not the folder of host 0; --workdir must be on a disk that all "
                    "hosts share"
                )
    finally:
        if jax.process_index() == 0:
            token.unlink(missing_ok=True)


def describe_config(config: Mapping[str, Any], done: int) -> dict[str, str]:
    """Return the fields of a config and the number of completed steps for `agreement`."""
    fields = {f"config.{name}": repr(value) for name, value in flat_fields(config)}
    return {**fields, "completed steps": str(done)}


def describe_data(opened: Mapping[str, Opened]) -> dict[str, str]:
    """Return the classes and records of splits for `agreement`; empty on one host."""
    if jax.process_count() == 1:
        return {}
    facts = {}
    for split, found in opened.items():
        facts[f"classes of {split}"] = ", ".join(category.name for category in found.categories)
        for name, source in zip(found.names, found.sources, strict=True):
            facts[f"records of {split}, {name}"] = f"{len(source)} records, {_digest(source)}"
    return facts


def _digest(source: Source) -> str:
    """Return a digest of the keys, sizes and boxes of a source's records.

    Drawn records, which depend on the config alone, are not drawn for it.
    """
    digest = hashlib.sha256()
    for position in range(0 if source.is_drawn else len(source)):
        record = source[position]
        boxes = [(instance.box, instance.label) for instance in record.instances]
        described = (source.key(position), record.width, record.height, boxes)
        digest.update(repr(described).encode())
    return f"digest {digest.hexdigest()[:12]}"
