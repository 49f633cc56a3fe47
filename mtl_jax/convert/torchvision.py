"""torchvision's weights as a RUN, and a RUN's weights as torchvision's."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from mtl_jax.config.defaults import get_default
from mtl_jax.config.options.mask_rcnn import MaskRCNNOptions
from mtl_jax.config.resolve import resolve
from mtl_jax.convert import torchvision_names as names
from mtl_jax.convert.coco_names import coco_categories
from mtl_jax.convert.weight_files import read_tensors, write_torch
from mtl_jax.data.records import Category
from mtl_jax.errors import UserError
from mtl_jax.runs.initial import initial_variables, variable_shapes
from mtl_jax.runs.loading import load_run, save_run
from mtl_jax.runs.setup import Setup
from mtl_jax.training.transfer import TransferRow, format_table, transfer


def import_weights(
    file: str,
    workdir: Path,
    *,
    arch: str = "",
    min_size: int = 800,
    max_size: int = 1333,
    norm_eps: float | None = None,
    score_threshold: float = 0.05,
    class_names: Path | None = None,
    unused: Sequence[str] = (),
) -> None:
    """Make the RUN `workdir` of a state dict, or of an entry of torchvision's weights.

    Prints what became of each part. Raises UserError where a tensor lacks or is left over, but for
    those whose keys match a pattern of `unused`.
    """
    state, entry_eps = read(file)
    guessed = names.guess_arch(state)
    print(f"{file}: {guessed}")
    options = names.arch_options(arch or guessed)
    eps = entry_eps if norm_eps is None else norm_eps
    options = replace(
        options,
        backbone=replace(options.backbone, norm_eps=eps),
        detection=replace(options.detection, score_threshold=score_threshold),
    )
    config = torchvision_config(options, min_size, max_size)
    is_backbone = "conv1.weight" in state
    if is_backbone:
        tensors = list(names.backbone_tensors(options.backbone))
        categories = [Category(1, "object")]  # of heads that stay fresh
    else:
        tensors = names.model_tensors(options)
        classes = len(state["roi_heads.box_predictor.cls_score.bias"])
        categories = read_categories(class_names, classes)
    found = names.to_variables(state, tensors, tuple(unused))
    setup = Setup.build(resolve(config), categories)
    # The heads of a backbone's RUN are initialised; a whole model needs shapes alone.
    ours = initial_variables(setup, seed=0) if is_backbone else variable_shapes(setup)
    variables, rows = transfer(ours, unflatten_dict(found, sep="/"))
    left_out = [
        TransferRow(_module(key), state[key].size, "left out: no part of the model")
        for key in state.keys() - {tensor.key for tensor in tensors}
    ]
    print(format_table([*rows, *sorted(left_out)]))
    if not is_backbone and any(row.outcome != "copied" for row in rows):
        raise UserError(f"{file}: the weights are of another model than {arch or guessed}")
    save_run(workdir, setup, variables)


def _module(key: str) -> str:
    """Give a key as a path of ours; the counts of all batch norms are in one module."""
    module, _, name = key.rpartition(".")
    return f"{name if name == 'num_batches_tracked' else module}/{name}"


def torchvision_config(options: MaskRCNNOptions, min_size: int, max_size: int) -> ConfigDict:
    """Give a RUN's config for a model that sees pictures as torchvision shows them."""
    config = get_default()
    config.model.update(asdict(options))
    long, short = (-(-size // 32) * 32 for size in (max_size, min_size))
    canvases = ((short, long), (long, short)) if short < long else ((long, long),)
    config.data.resize.update(
        min_size=min_size, max_size=max_size, canvases=canvases, interpolation="float"
    )
    return config


def read(file: str) -> tuple[dict[str, np.ndarray], float]:
    """Give the tensors of a file or of an entry of torchvision's weights, and the epsilon of its
    norms.
    """
    if "_Weights." not in file:
        return names.rename(read_tensors(file)), 1e-5
    try:
        from torchvision.models import get_weight  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError(f"{file}: fetching it wants torchvision; install it") from None
    try:
        entry = get_weight(file)
    except ValueError as error:
        raise UserError(f"{file}: {error}") from None
    try:
        state = entry.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise UserError(f"{file}: cannot be fetched ({error})") from None
    # torchvision overwrites the epsilon of these alone.
    exact = file in (
        "MaskRCNN_ResNet50_FPN_Weights.COCO_V1",
        "FasterRCNN_ResNet50_FPN_Weights.COCO_V1",
    )
    tensors = {key: value.numpy() for key, value in state.items()}
    return names.rename(tensors), 0.0 if exact else 1e-5


def read_categories(file: Path | None, classes: int) -> list[Category]:
    """Give the categories of `classes` classes, background included: by a file of names, else
    COCO's for 91, else numbered.
    """
    if file is None:
        if classes == 91:
            return list(coco_categories())
        return [Category(i, f"class {i}") for i in range(1, classes)]
    try:
        lines = [line.strip() for line in file.read_text().splitlines()]
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from None
    found = [line for line in lines if line]
    if len(found) != classes - 1 or len(set(found)) != len(found):
        raise UserError(
            f"{file}: {len(found)} names, {len(set(found))} of them different; the weights have"
            f" {classes - 1} classes beside the background"
        )
    return [Category(i, name) for i, name in enumerate(found, 1)]


def export_weights(workdir: Path, output: Path, step: str = "best") -> None:
    """Write a RUN's weights as a state dict that torchvision's model of the same kind loads.

    Attribute heads have no place there: they are left out, and named.
    """
    run = load_run(workdir, step)
    options = run.setup.experiment.mask_rcnn(f"{workdir}: torchvision's form")
    tensors = names.model_tensors(options)
    variables: dict = flatten_dict(jax.device_get(run.variables), sep="/")
    write_torch(output, names.to_state_dict(variables, tensors))
    left = sorted({p.split("/")[1] for p in variables.keys() - {t.path for t in tensors}})
    print(f"{output}: {len(tensors)} tensors" + (f"; left out: {', '.join(left)}" if left else ""))
