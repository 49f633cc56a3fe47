"""Convert torchvision's weights to a run folder, and a run's weights to torchvision's."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from mtl_jax.config.defaults import get_default
from mtl_jax.config.options.mask_rcnn import MaskRCNNOptions
from mtl_jax.config.resolve import resolve
from mtl_jax.convert import torchvision_names as names
from mtl_jax.convert.coco_names import PERSON_KEYPOINTS, coco_categories
from mtl_jax.convert.model_files import find_weights
from mtl_jax.convert.torch_files import write_torch
from mtl_jax.convert.weight_files import read_tensors
from mtl_jax.data.records import Category
from mtl_jax.errors import UserError
from mtl_jax.io.digests import file_digest
from mtl_jax.runs.initial import initial_variables, variable_shapes
from mtl_jax.runs.loading import load_run
from mtl_jax.runs.origin import write_origin
from mtl_jax.runs.saving import save_run
from mtl_jax.runs.setup import Setup
from mtl_jax.training.transfer import TransferRow, format_table, transfer
from mtl_jax.types import Variables


class Converted(NamedTuple):
    """A converted model."""

    name: str  # torchvision's
    setup: Setup
    variables: Variables  # of the model, or of its backbone if the weights are those of a backbone
    rows: tuple[TransferRow, ...]  # the outcome for each tensor; of a backbone, what is left out
    is_backbone: bool = False


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
    """Create the run folder `workdir` from a state dict, or from public weights by their name.

    Prints the outcome of each part. Raises UserError if a tensor is missing or unexpected;
    unexpected keys that match a pattern of `unused` are ignored.
    """
    path, entry = find_weights(file, "torchvision")
    converted = convert(
        path,
        arch=arch,
        min_size=min_size,
        max_size=max_size,
        norm_eps=(1e-5 if entry is None else entry.norm_eps) if norm_eps is None else norm_eps,
        score_threshold=score_threshold,
        class_names=class_names,
        unused=unused,
    )
    print(f"{file}: {converted.name}")
    setup, variables, rows = converted.setup, converted.variables, converted.rows
    if converted.is_backbone:  # the heads are initialised
        variables, copied = transfer(initial_variables(setup, seed=0), variables)
        rows = (*copied, *rows)
    print(format_table(rows))
    save_run(workdir, setup, variables)
    if entry is not None:
        write_origin(workdir, entry.card(file_digest(path)))


def convert(
    file: Path,
    *,
    arch: str = "",
    min_size: int = 800,
    max_size: int = 1333,
    norm_eps: float = 1e-5,
    score_threshold: float = 0.05,
    class_names: Path | None = None,
    unused: Sequence[str] = (),
) -> Converted:
    """Convert a state dict. Raises UserError if a tensor is missing or unexpected."""
    state = names.rename(read_tensors(file))
    guessed = names.guess_arch(state)
    options = names.arch_options(arch or guessed)
    options = replace(
        options,
        backbone=replace(options.backbone, norm_eps=norm_eps),
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
    found: Variables = unflatten_dict(names.to_variables(state, tensors, tuple(unused)), sep="/")
    setup = Setup.build(resolve(config), categories)
    left_out = sorted(
        TransferRow(_module(key), state[key].size, "left out: not part of the model")
        for key in state.keys() - {tensor.key for tensor in tensors}
    )
    if is_backbone:
        return Converted(guessed, setup, found, tuple(left_out), is_backbone)
    variables, rows = transfer(variable_shapes(setup), found)
    if any(row.outcome != "copied" for row in rows):
        print(format_table([*rows, *left_out]))
        raise UserError(f"{file}: the weights do not match {arch or guessed}; check --arch")
    return Converted(guessed, setup, variables, (*rows, *left_out))


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
