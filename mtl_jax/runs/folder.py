"""A run's folder: its config.json, and whether the run in it can go on with a config."""

import fcntl
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import accumulate
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from mtl_jax.attributes import declarations
from mtl_jax.config.blocks import blocks_of, with_names
from mtl_jax.config.defaults import get_default
from mtl_jax.config.fields import as_tuples, config_from_json, flat_fields
from mtl_jax.config.options.training import Stage
from mtl_jax.config.resolve import Experiment
from mtl_jax.errors import UserError
from mtl_jax.training.checkpoint import Checkpointer

_log = logging.getLogger(__name__)
# What may change when a run is resumed, beside more steps: how often it says something, and what
# evaluate.py says of it.
CHANGEABLE = ("train.log_every", "train.eval_every", "train.checkpoint_every")
CHANGEABLE += ("eval.groups", "eval.limits", "eval.coverage")


@contextmanager
def lock_run(workdir: Path, alone: bool = True) -> Iterator[None]:
    """Make a run's folder and keep other trainings out of it (all but one host of a cluster give
    `alone` as False); an empty one goes again at the end.

    Raises UserError where it cannot be made, or another training holds it.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        folder = os.open(workdir, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"{workdir}: cannot be the run's folder ({error.strerror})") from None
    try:
        if alone:
            _lock(folder, workdir)
        try:
            yield
        finally:
            with suppress(OSError):
                workdir.rmdir()
    finally:
        os.close(folder)


def _lock(folder: int, workdir: Path) -> None:
    """Lock an open folder until it is closed, as it also is when the process is killed."""
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(
            f"{workdir}: another training writes there; wait for it, or use another --workdir"
        ) from None
    except OSError as error:
        what = "%s: its file system has no locks (%s): start no other training there meanwhile"
        _log.warning(what, workdir, error.strerror)


@contextmanager
def removed_unless_done(path: Path) -> Iterator[None]:
    """Remove a file again that is new where what follows fails."""
    new = not path.exists()
    try:
        yield
    except BaseException:
        if new:
            path.unlink(missing_ok=True)
        raise


def prepare_folder(workdir: Path, experiment: Experiment) -> int:
    """Return the number of steps of an experiment that are done in a run's folder.

    Raises UserError where the steps were done with another config. What a run left behind that
    stopped before its first checkpoint counts for nothing.
    """
    path, folder = workdir / "config.json", workdir / "checkpoints"
    latest = Checkpointer(folder).latest() if folder.is_dir() else None
    if latest == 0:
        raise UserError(
            f"{workdir} holds weights that were converted; start from them in another --workdir, "
            f"with --config.init.checkpoint={workdir}"
        )
    done = latest or 0
    if not path.is_file():
        return done
    differing = list(differing_fields(read_config(path), experiment.config, done))
    if differing and done:
        more = f" and {len(differing) - 5} more" if len(differing) > 5 else ""
        raise UserError(
            f"{workdir} holds a run of another config: {', '.join(differing[:5])}{more}; "
            "use another --workdir"
        )
    if differing:
        (workdir / "splits.json").unlink(missing_ok=True)
    if done > experiment.steps:
        raise UserError(
            f"{workdir}: {done} steps are done, and config.stages has only {experiment.steps}"
        )
    return done


def read_config(path: Path) -> ConfigDict:
    """Read a run's config.json, its blocks by name."""
    try:
        return with_names(config_from_json(path.read_text()))
    except ValueError as error:
        raise UserError(f"{path}: cannot be read: {error}; use another --workdir") from None


def differing_fields(
    old: Mapping[str, Any] | ConfigDict, new: Mapping[str, Any] | ConfigDict, done: int = 0
) -> Iterator[str]:
    """Name the fields that a run of `done` steps cannot be resumed with; more steps of the stages
    that it has not left and other logging it can.

    What a run of an older version does not say has its default.
    """
    there, now = _flat(old), _flat(new)
    default = _flat(get_default(new["family"]))
    stages = blocks_of(with_names(old)["stages"]).values()
    ends = accumulate(stage.get("steps", Stage.steps) for stage in stages)
    unused = "train.balancing." if new["train"]["balance"] == "fixed" else "none"
    left = {f"stages[{i}].steps" for i, end in enumerate(ends) if end < done}
    for name in sorted(there.keys() | now.keys()):
        a, b = (fields.get(name, default.get(name)) for fields in (there, now))
        stage = re.match(r"stages\[\d+\]\.", name)
        is_longer = stage and name not in left and (name.endswith("].steps") or name not in there)
        if a != b and not (name in CHANGEABLE or is_longer or name.startswith(unused)):
            yield f"{name} ({a!r} there, {b!r} now)"


def _flat(config: Mapping[str, Any] | ConfigDict) -> dict[str, Any]:
    """Return every field by its dotted name, blocks by position, with the options of attributes
    that the config leaves at their defaults.
    """
    named = as_tuples(with_names(config))
    fields = as_tuples(json.loads(json.dumps(named)))  # whose keys are texts
    sources = blocks_of(fields["data"]["sources"])
    blocks = tuple({"name": name, **block} for name, block in sources.items())
    return dict(
        flat_fields(
            {
                **fields,
                "attributes": declarations.with_defaults(fields["attributes"]),
                "data": {**fields["data"], "sources": blocks},
                "stages": tuple(blocks_of(fields["stages"]).values()),
            }
        )
    )
