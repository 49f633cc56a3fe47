"""The folder of a run: its lock, its config.json, and whether a config can resume the run."""

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
from mtl_jax.config.defaults import get_stored_default
from mtl_jax.config.fields import as_tuples, config_from_json, flat_fields
from mtl_jax.config.options.training import Stage
from mtl_jax.config.resolve import Experiment
from mtl_jax.errors import UserError, listed
from mtl_jax.training.stored.reader import CheckpointReader

_log = logging.getLogger(__name__)
# Fields that may differ when a run is resumed, besides more steps: intervals of the training loop,
# and options of evaluate.py.
CHANGEABLE = ("train.log_every", "train.eval_every", "train.checkpoint_every")
CHANGEABLE += ("eval.groups", "eval.limits", "eval.coverage")


@contextmanager
def lock_run(workdir: Path, alone: bool = True) -> Iterator[None]:
    """Create a run folder and lock it against other training processes.

    On a cluster all hosts but one pass `alone=False`, which takes no lock. An empty folder is
    removed on exit. Raises UserError if the folder cannot be created or is locked.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        folder = os.open(workdir, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"{workdir}: cannot open the run folder ({error.strerror})") from None
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
    """Lock an open folder until it is closed or the process ends, even if it is killed."""
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(
            f"{workdir}: in use by another training process; wait for it or use another --workdir"
        ) from None
    except OSError as error:
        what = "%s: file locks are not supported (%s); start no other training in this folder"
        _log.warning(what, workdir, error.strerror)


@contextmanager
def removed_unless_done(*paths: Path) -> Iterator[None]:
    """Remove those files that did not exist before, if the block raises an exception."""
    new = [path for path in paths if not path.exists()]
    try:
        yield
    except BaseException:
        for path in new:
            path.unlink(missing_ok=True)
        raise


def prepare_folder(workdir: Path, experiment: Experiment) -> int:
    """Return the number of steps of an experiment that are completed in a run folder.

    Raises UserError if the steps were trained with another config. The splits of a run that stopped
    before its first checkpoint are removed if its config differs.
    """
    path, folder = workdir / "config.json", workdir / "checkpoints"
    latest = CheckpointReader(folder).latest() if folder.is_dir() else None
    if latest == 0:
        raise UserError(
            f"{workdir}: contains converted weights, which cannot be resumed; use another "
            f"--workdir with --config.init.checkpoint={workdir}"
        )
    done = latest or 0
    if not path.is_file():
        if done:
            raise UserError(
                f"{path}: missing; the {done} steps of this run cannot be resumed without it; use "
                "another --workdir"
            )
        return 0
    differing = list(differing_fields(read_config(path), experiment.config, done))
    if differing and done:
        raise UserError(
            f"{workdir}: contains a run of another config: {listed(differing, 5)}; "
            "use the values of the run, or another --workdir"
        )
    if differing:
        (workdir / "splits.json").unlink(missing_ok=True)
    if done > experiment.steps:
        raise UserError(
            f"{workdir}: {done} steps are done, and config.stages has only {experiment.steps}; "
            "use more steps or another --workdir"
        )
    return done


def read_config(path: Path) -> ConfigDict:
    """Read a run's config.json and name its blocks. Raises UserError if it is not valid."""
    try:
        return with_names(config_from_json(path.read_text()))
    except (ValueError, AttributeError, KeyError, TypeError) as error:  # not those of a config
        raise UserError(f"{path}: cannot be read: {error!r}; use another --workdir") from None


def differing_fields(
    old: Mapping[str, Any] | ConfigDict, new: Mapping[str, Any] | ConfigDict, done: int = 0
) -> Iterator[str]:
    """Yield the differences between two configs that prevent resuming a run after `done` steps.

    The fields in CHANGEABLE, the number of steps of unfinished stages and added stages may differ.
    Fields that are missing from a run of an earlier version have the defaults of the options.
    """
    there, now = _flat(old), _flat(new)
    default = _flat(get_stored_default(new["family"]))
    stages = blocks_of(with_names(old)["stages"]).values()
    ends = accumulate(stage.get("steps", Stage.steps) for stage in stages)
    unused = "train.balancing." if new["train"]["balance"] == "fixed" else "none"
    left = {f"stages[{i}].steps" for i, end in enumerate(ends) if end < done}
    for name in sorted(there.keys() | now.keys()):
        a, b = (fields.get(name, default.get(name)) for fields in (there, now))
        stage = re.match(r"stages\[\d+\]\.", name)
        is_longer = stage and name not in left and (name.endswith("].steps") or name not in there)
        if a != b and not (name in CHANGEABLE or is_longer or name.startswith(unused)):
            yield f"{name} ({a!r} in the run, {b!r} now)"


def _flat(config: Mapping[str, Any] | ConfigDict) -> dict[str, Any]:
    """Return every field by dotted name, with blocks by position and all options of attributes."""
    named = as_tuples(with_names(config))
    fields = as_tuples(json.loads(json.dumps(named)))  # converts keys to strings
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
