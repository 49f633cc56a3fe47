"""What a model was trained on, under which licence, and how it scored.

A run folder contains it as `origin.json`, a one-file model as `card` in its metadata.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mtl_jax
from mtl_jax.config.options.data import SourceOptions
from mtl_jax.config.options.training import InitOptions
from mtl_jax.config.resolve import Experiment
from mtl_jax.convert.model_files import find_model
from mtl_jax.data.datasets.blocks import complete, merge_short, name_all
from mtl_jax.data.datasets.sources import Opened
from mtl_jax.errors import UserError
from mtl_jax.io.atomic import write_json
from mtl_jax.io.digests import file_digest
from mtl_jax.io.regular import read_regular
from mtl_jax.training.checkpoint import Checkpointer
from mtl_jax.training.single_file import read_pack

NAME, EVALUATED = "origin.json", "checkpoint.json"


def write_origin(workdir: Path, origin: Mapping[str, Any]) -> None:
    """Write what the model in a run folder was trained on."""
    write_json(workdir / NAME, origin)


def describe(experiment: Experiment, training: Opened) -> dict[str, Any]:
    """Return the data that a run trains on, and what it starts from."""
    return {
        "trained_on": _describe_data(experiment.sources, training),
        "started_from": _describe_start(experiment.init),
    }


def _describe_data(options: SourceOptions, training: Opened) -> list[dict[str, Any]]:
    """Return the name, format, licence and number of records of each source of training."""
    blocks = name_all([complete(block) for block in merge_short(options)])
    formats = {block["name"]: block["format"] for block in blocks}
    return [
        {
            "name": name,
            "format": formats.get(name, ""),
            "records": len(source),
            "licence": source.licence or "not stated by the data",
        }
        for name, source in zip(training.names, training.sources, strict=True)
    ]


def _describe_start(options: InitOptions) -> dict[str, Any] | None:
    """Return what a training starts from: its name in the config, its digest, and what it was
    trained on; None for random weights.

    The digest of a checkpoint is that of the list of its files' digests. Raises UserError if there
    is no such model.
    """
    if not options.checkpoint:
        return None
    path = find_model(options.checkpoint, whole=False)
    if path.is_file():
        described = {"sha256": file_digest(path), "card": read_card(path)}
    else:
        checkpoints = Checkpointer(path / "checkpoints")
        step = checkpoints.find(options.step)
        described = {"sha256": checkpoints.digest(step), "card": read_card(path, step)}
    return {"name": options.checkpoint, **described}


def read_card(path: Path, step: str | int = "best") -> dict[str, Any]:
    """Return what the model of a run folder or of a one-file model was trained on, and its metrics
    by split; empty if the file does not say it. Raises UserError if there is no model.
    """
    if path.is_file():
        card = read_pack(path)[0].get("card")
        return card if isinstance(card, dict) else {}
    checkpoints = Checkpointer(path / "checkpoints")
    try:
        found = checkpoints.find(step)
    except FileNotFoundError as error:
        raise UserError(str(error)) from None
    origin = _read(path / NAME)
    reported = origin.get("metrics")
    metrics = list(reported) if isinstance(reported, list) else []
    if validation := _finite(checkpoints.metrics(found), "val/"):
        metrics.append({"split": "val", "values": validation})
    for file in sorted(path.glob(f"evaluation/*/{EVALUATED}")):
        evaluated = _read(file)
        if evaluated.get("checkpoint") == f"step {found}":
            values = _finite(_read(file.parent / "metrics.json"))
            metrics.append({"split": evaluated.get("split"), "values": values})
    library = f"mtl_jax {mtl_jax.__version__}"
    return {**origin, "library": library, "step": found, "metrics": metrics}


def _read(path: Path) -> dict[str, Any]:
    """Return a JSON object, which a stranger may have written; empty if there is none."""
    try:
        found = json.loads(read_regular(path))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _finite(metrics: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Return the metrics that are numbers, without the prefix of their names."""
    return {
        name.removeprefix(prefix): float(value)
        for name, value in metrics.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }
