"""Convert torchvision's weights to a run folder, and a run's weights to torchvision's."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from mtl_jax.config.defaults import get_default
from mtl_jax.config.options.mask_rcnn import MaskRCNNOptions
from mtl_jax.config.resolve import resolve
from mtl_jax.convert import torchvision_names as names
from mtl_jax.convert.coco_names import PERSON_KEYPOINTS, coco_categories
from mtl_jax.convert.torch_files import write_torch
from mtl_jax.convert.weight_files import read_tensors
from mtl_jax.data.records import Category
from mtl_jax.errors import UserError
from mtl_jax.runs.initial import initial_variables, variable_shapes
from mtl_jax.runs.loading import load_run
from mtl_jax.runs.saving import save_run
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
    """Create the run folder `workdir` from a state dict, or from an entry of torchvision's weights.

    Prints the outcome of each part. Raises UserError if a tensor is missing or unexpected;
    unexpected keys that match a pattern of `unused` are ignored.
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
    is_backbone = "rcnn" not in guessed
    if is_backbone:
        tensors = list(names.backbone_tensors(options.backbone))
        categories = [Category(1, "object")]  # heads are not imported
    else:
        if "keypoint" in guessed:
            points = len(state[f"{names.KEYPOINT_LOGITS}.bias"])
            config.attributes = {"keypoints": keypoints(points)}
        attributes = resolve(config).attributes
        tensors = names.model_tensors(options, attributes)
        classes = len(state["roi_heads.box_predictor.cls_score.bias"])
        categories = read_categories(class_names, classes)
        if "keypoint" in guessed and classes == 2 and class_names is None:
            categories = [Category(1, "person")]
    found = names.to_variables(state, tensors, tuple(unused))
    setup = Setup.build(resolve(config), categories)
    # With a backbone only, the heads are initialised; a whole model requires only shapes.
    ours = initial_variables(setup, seed=0) if is_backbone else variable_shapes(setup)
    variables, rows = transfer(ours, unflatten_dict(found, sep="/"))
    left_out = [
        TransferRow(_module(key), state[key].size, "left out: not part of the model")
        for key in state.keys() - {tensor.key for tensor in tensors}
    ]
    print(format_table([*rows, *sorted(left_out)]))
    if not is_backbone and any(row.outcome != "copied" for row in rows):
        raise UserError(f"{file}: the weights do not match {arch or guessed}; check --arch")
    save_run(workdir, setup, variables)


def keypoints(count: int) -> dict[str, Any]:
    """Return the declaration of COCO's keypoints of a person, or of `count` numbered points."""
    if count == len(PERSON_KEYPOINTS["points"]):
        return PERSON_KEYPOINTS
    points = tuple(f"point {i}" for i in range(1, count + 1))
    return {**PERSON_KEYPOINTS, "points": points, "flip": ()}


def _module(key: str) -> str:
    """Return a key as a path like ours, with the counts of all batch norms in one module."""
    module, _, name = key.rpartition(".")
    return f"{name if name == 'num_batches_tracked' else module}/{name}"


def torchvision_config(options: MaskRCNNOptions, min_size: int, max_size: int) -> ConfigDict:
    """Return a run's config for a model, with images resized as in torchvision."""
    config = get_default()
    config.model.update(asdict(options))
    long, short = (-(-size // 32) * 32 for size in (max_size, min_size))
    canvases = ((short, long), (long, short)) if short < long else ((long, long),)
    config.data.resize.update(
        min_size=min_size, max_size=max_size, canvases=canvases, interpolation="float"
    )
    return config


def read(file: str) -> tuple[dict[str, np.ndarray], float]:
    """Return the tensors of a file or of an entry of torchvision's weights, and the norms' epsilon.

    Raises UserError if the file is invalid, or the entry is unknown or cannot be downloaded.
    """
    if "_Weights." not in file:
        return names.rename(read_tensors(file)), 1e-5
    try:
        from torchvision.models import get_weight  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError(f"{file}: the download requires torchvision; install it") from None
    try:
        entry = get_weight(file)
    except ValueError as error:
        raise UserError(f"{file}: {error}") from None
    try:
        state = entry.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise UserError(f"{file}: cannot be downloaded ({error})") from None
    # torchvision overrides the epsilon of these entries only.
    exact = file in (
        "MaskRCNN_ResNet50_FPN_Weights.COCO_V1",
        "FasterRCNN_ResNet50_FPN_Weights.COCO_V1",
        "KeypointRCNN_ResNet50_FPN_Weights.COCO_V1",
    )
    tensors = {key: value.numpy() for key, value in state.items()}
    return names.rename(tensors), 0.0 if exact else 1e-5


def read_categories(file: Path | None, classes: int) -> list[Category]:
    """Return the categories of `classes` classes, background included.

    Names are those in `file`; without a file, COCO's for 91 classes, else numbers. Raises UserError
    if the file cannot be read or does not contain one unique name per class.
    """
    if file is None:
        if classes == 91:
            return list(coco_categories())
        return [Category(i, f"class {i}") for i in range(1, classes)]
    try:
        lines = [line.strip() for line in file.read_text("utf-8").splitlines()]
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise UserError(f"{file}: must be a UTF-8 text file with one name per line") from None
    found = [line for line in lines if line]
    if len(found) != classes - 1 or len(set(found)) != len(found):
        raise UserError(
            f"{file}: expected {classes - 1} unique names, one per class without the background,"
            f" got {len(found)} names, {len(set(found))} of them unique"
        )
    return [Category(i, name) for i, name in enumerate(found, 1)]


def export_weights(workdir: Path, output: Path, step: str = "best") -> None:
    """Write a run's weights as a state dict for torchvision's model of the same kind.

    Heads that torchvision's models do not have are left out, and their names are printed.
    """
    run = load_run(workdir, step)
    options = run.setup.experiment.mask_rcnn(f"{workdir}: torchvision's form")
    tensors = names.model_tensors(options, run.attributes)
    variables: dict = flatten_dict(jax.device_get(run.variables), sep="/")
    write_torch(output, names.to_state_dict(variables, tensors))
    left = sorted({p.split("/")[1] for p in variables.keys() - {t.path for t in tensors}})
    print(f"{output}: {len(tensors)} tensors" + (f"; left out: {', '.join(left)}" if left else ""))
    if options.roi.aligned:
        print(
            f"{workdir} was trained with config.model.roi.aligned=True; torchvision's detections "
            "differ, because it pools regions half a cell further right and down"
        )
