"""Export a run's model as StableHLO and SavedModel, for programs without this library and Flax."""

import json
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

from mtl_jax.attributes.declarations import with_defaults
from mtl_jax.convert.loader import LOADER
from mtl_jax.errors import UserError
from mtl_jax.images.geometry import Size
from mtl_jax.runs.loading import Run, load_run
from mtl_jax.types import Array, Inputs

PLATFORMS = ("cpu", "cuda", "tpu")
Detect = Callable[[Array, Array], dict[str, Array]]


def export(
    workdir: Path,
    output: Path,
    *,
    batch_size: int = 1,
    step: str = "best",
    saved_model: bool = True,
    overrides: Sequence[str] = (),
) -> None:
    """Write a run's model to the folder `output`, for `batch_size` images of each padded size.

    `model_HxW.stablehlo` is written by `jax.export`, for PLATFORMS; `saved_model` is TensorFlow's.
    `model.json` contains classes, attributes and the parameters of resizing and padding. `load.py`
    shows how to use the StableHLO with jax and OpenCV only. `overrides` are those of `predict.py`.
    Raises UserError if `output` contains files, or if the run has no fixed padded sizes.
    """
    run = load_run(workdir, step, overrides)
    if run.resize.mode not in ("shorter", "square"):
        raise UserError(
            f"{workdir}: config.data.resize.mode must be 'square' or 'shorter', got"
            f" {run.resize.mode!r}: an exported model requires fixed image sizes"
        )
    if output.exists() and any(output.iterdir()):
        raise UserError(f"{output}: must be an empty or new folder; choose another --output")
    if saved_model and find_spec("tensorflow") is None:
        raise UserError(
            f"{output}: a SavedModel requires TensorFlow; install it or pass --no-saved-model"
        )
    output.mkdir(parents=True, exist_ok=True)
    detect = jax.jit(detector(run))
    exports = {
        f"{height}x{width}": jax_export.export(detect, platforms=PLATFORMS)(
            *inputs(run, (height, width), batch_size)
        )
        for height, width in run.resize.canvases
    }
    for name, exported in exports.items():
        (output / f"model_{name}.stablehlo").write_bytes(exported.serialize())
    if saved_model:
        from mtl_jax.convert.saved_model import save

        functions = {f"detect_{name}": exported for name, exported in exports.items()}
        save(functions, output / "saved_model")
    (output / "load.py").write_text(LOADER)
    (output / "model.json").write_text(json.dumps(describe(run, batch_size), indent=1) + "\n")


def detector(run: Run) -> Detect:
    """Return a function (images [B H W C], sizes [B 2]) -> detections by name, with the weights."""
    variables = jax.device_get(run.variables)

    def detect(pixels: Array, sizes: Array) -> dict[str, Array]:
        rows = pixels.shape[0]
        shown = Inputs(pixels, sizes, jnp.ones(rows, bool))
        found = run.setup.model.predict(jax.tree.map(jnp.asarray, variables), shown)._asdict()
        attributes = {f"attribute_{k}": v for k, v in found.pop("attributes").items()}
        return {k: v for k, v in found.items() if v is not None} | attributes

    return detect


def inputs(run: Run, size: Size, batch_size: int) -> tuple[jax.ShapeDtypeStruct, ...]:
    """Return the shapes and dtypes of the inputs of `detector`."""
    pixels = (batch_size, *size, run.channels)
    return (
        jax.ShapeDtypeStruct(pixels, run.resize.dtype),
        jax.ShapeDtypeStruct((batch_size, 2), np.float32),
    )


def describe(run: Run, batch_size: int) -> dict[str, Any]:
    """Return the contents of model.json: the meaning of the model's inputs and outputs."""
    return {
        "batch_size": batch_size,
        "canvases": run.resize.canvases,
        "channels": run.channels,
        "resize": {
            "mode": run.resize.mode,
            "min_size": run.resize.min_size,
            "max_size": run.resize.max_size,
            "zoom": run.resize.zoom,
            "dtype": np.dtype(run.resize.dtype).name,
        },
        "classes": {i: category.name for i, category in enumerate(run.categories, 1)},
        "category_ids": {i: category.id for i, category in enumerate(run.categories, 1)},
        "attributes": with_defaults(run.setup.experiment.config["attributes"]),
    }
