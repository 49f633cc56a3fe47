"""Trained models: loading and detection."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict
from jax.sharding import Mesh

from mtl_jax.attributes.base import Attribute
from mtl_jax.config.options.data import RegionOptions
from mtl_jax.config.options.hyperface import FaceDetectionOptions, HyperFaceOptions
from mtl_jax.config.renamed import with_new_name
from mtl_jax.data.datasets.access import check_path
from mtl_jax.data.datasets.selective_search import BatchSearch
from mtl_jax.data.records import Category
from mtl_jax.errors import UserError
from mtl_jax.images.decode import Levels
from mtl_jax.images.resize import ResizeOptions
from mtl_jax.models.mask_rcnn.rpn_proposals import rpn_proposals
from mtl_jax.runs.own_configs import is_noted
from mtl_jax.runs.setup import Setup
from mtl_jax.runs.traced_programs import TracedPrograms, open_programs
from mtl_jax.training.compilation_cache import enable_compilation_cache
from mtl_jax.training.sharding import make_mesh, replicate, replicated, shard_batch
from mtl_jax.training.single_file import read_pack
from mtl_jax.training.stored.reader import CheckpointReader
from mtl_jax.types import Detections, Inputs, Model, Variables

# Fields of a trained model's config that can be changed; the others are fixed by training.
EVALUATION = ("data.", "eval.", "model.detection.")
TRAINING_ONLY = ("eval.images", "eval.loss", "eval.best_metric")  # used only by validation
Predict = Callable[[Inputs], Detections]
Propose = Callable[[Inputs], Inputs]  # adds proposals


@dataclass(frozen=True)
class Run:
    """A trained model with its detection function."""

    setup: Setup
    variables: Variables
    predict: Predict
    propose: Propose | None = None  # for external proposals; applied before `predict`
    version: str = ""  # of the weights: a step, or the time and size of a packed file

    @property
    def resize(self) -> ResizeOptions:
        return self.setup.experiment.data.resize

    @property
    def channels(self) -> int:
        return self.setup.experiment.data.channels

    @property
    def levels(self) -> Levels:
        return self.setup.experiment.sources.levels

    @property
    def batch_size(self) -> int:
        return self.setup.experiment.eval.batch_size

    @property
    def exact_masks(self) -> bool:
        return self.setup.experiment.exact_masks

    @property
    def categories(self) -> Sequence[Category]:
        return self.setup.categories

    @property
    def attributes(self) -> Sequence[Attribute]:
        return self.setup.attributes


def load_run(
    workdir: str | Path,
    step: str | int = "best",
    overrides: Sequence[str] = (),
    proposals: Path | None = None,
    *,
    trust: bool = False,
) -> Run:
    """Load a trained model from a run folder or a packed file; no other files are required.

    `proposals` is the folder that stores the proposals of selective search; None stores none. With
    `trust`, or if the user trained its config on this computer, the data of the run is opened
    without restrictions: a Python file that its config names is run. Raises UserError if there is
    no such checkpoint, or `overrides` change fields that are fixed by training.
    """
    overrides = [with_new_name(argument) for argument in overrides]
    for argument in overrides:
        field = argument.partition("=")[0].removeprefix("--config.")
        if field in TRAINING_ONLY:
            raise UserError(f"{argument}: this field applies only to training; remove it")
        if not field.startswith(EVALUATION):
            allowed = ", ".join(f"config.{name}*" for name in EVALUATION)
            raise UserError(f"{argument}: fixed by training; only {allowed} can be changed")
    enable_compilation_cache()
    metadata, variables, version = _read(workdir, step)
    trusted = trust or is_noted(metadata.get("config", {}))
    setup = Setup.from_metadata(metadata, overrides, str(workdir), trusted)
    programs = open_programs(setup)
    # Anyone may have written the weights. A kept program was traced with the same shapes.
    if programs is None or programs.is_empty(variables):
        _check_shapes(setup, variables, workdir)
    mesh = make_mesh()
    detect = make_detect(setup.model, mesh, programs)
    variables = replicate(variables, mesh)
    propose = make_propose(setup, mesh, proposals)
    return Run(setup, variables, partial(detect, variables), propose, version)


def _check_shapes(setup: Setup, variables: Variables, path: str | Path) -> None:
    """Raise UserError if variables, which anyone may have written, are not those of their model."""
    from mtl_jax.runs.initial import variable_shapes  # imports this module

    try:
        shapes: dict[tuple[str, ...], Any] = dict(flatten_dict(variable_shapes(setup)))
    except Exception as error:  # sizes that no model has
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{path}: its metadata is invalid ({reason})") from None
    arrays = flatten_dict(variables)
    for key, expected in shapes.items():
        found = np.asarray(arrays.get(key))
        if found.shape != expected.shape or found.dtype.kind not in "fV":  # V: bfloat16
            raise UserError(
                f"{path}: {'/'.join(key)} must have the shape {expected.shape}, got {found.shape} "
                f"{found.dtype}"
            )


def read_checkpoint(path: str | Path, step: str | int) -> tuple[dict[str, Any], Variables]:
    """Return the metadata and the variables of a run's checkpoint, or of a packed file.

    Raises UserError if there is no such checkpoint, or if it is damaged.
    """
    return _read(path, step)[:2]


def _read(path: str | Path, step: str | int) -> tuple[dict[str, Any], Variables, str]:
    """Return also `Run.version`."""
    if Path(path).is_file():
        file = Path(path).stat()
        return *read_pack(Path(path)), f"{file.st_mtime_ns} {file.st_size}"
    try:
        stored = CheckpointReader(Path(path) / "checkpoints").read(step)
    except FileNotFoundError as error:
        raise UserError(str(error)) from None
    return stored.metadata, stored.variables, f"step {stored.step}"


def make_detect(
    model: Model, mesh: Mesh, programs: TracedPrograms | None = None
) -> Callable[[Variables, Inputs], Detections]:
    """Compile prediction: NumPy inputs to NumPy detections of the same rows.

    With `programs`, its traced programs are kept.
    """
    if programs is None:
        compiled = jax.jit(model.predict, out_shardings=replicated(mesh))
    else:
        compiled = programs.keep(model.predict)

    def detect(variables: Variables, inputs: Inputs) -> Detections:
        rows = len(inputs.valid)
        found = jax.device_get(compiled(variables, shard_batch(inputs, mesh)))
        return jax.tree.map(lambda x: x[:rows], found)

    return detect


def make_propose(setup: Setup, mesh: Mesh, folder: Path | None = None) -> Propose | None:
    """Return the function that adds proposals to batches, or None if the model requires none.

    `config.model.detection` selects the proposals. `folder` stores those of selective search; None
    stores none. Raises UserError if the proposals are not available.
    """
    model, data = setup.experiment.model, setup.experiment.data
    if not isinstance(model, HyperFaceOptions):
        return None
    options = model.detection
    if options.proposals == "windows" or not options.enabled:
        return None
    if options.proposals == "rpn":
        named = setup.experiment.sources.named
        check_path("config.model.detection.rpn", options.rpn, named)
        return _make_rpn_propose(data.channels, options, mesh)
    if data.channels not in (1, 3):
        raise UserError(
            f"selective search requires config.data.channels 1 or 3, got {data.channels}"
        )
    search = RegionOptions(options.proposals, search_side=data.regions.search_side)
    return BatchSearch(search, options.max_proposals, folder)


def _make_rpn_propose(channels: int, options: FaceDetectionOptions, mesh: Mesh) -> Propose:
    """Return the function that adds proposals of the RPN in `config.model.detection.rpn`.

    The RPN reads the same batches as this model, with `channels` channels.
    """
    field = "config.model.detection.rpn"
    if not options.rpn:
        raise UserError(
            f"{field} is empty; set it to the RUN of a mask_rcnn model or use other proposals"
        )
    try:
        metadata, variables = read_checkpoint(options.rpn, "best")
    except UserError as error:
        raise UserError(f"{field}: {error}") from None
    other = Setup.from_metadata(metadata, where=f"{field}: {options.rpn}")
    rpn = other.experiment.mask_rcnn(f"{field} {options.rpn}")
    if (own := other.experiment.data.channels) != channels:
        raise UserError(
            f"{field} {options.rpn}: expected a model of images with {channels} channels, got {own}"
        )
    _check_shapes(other, variables, f"{field}: {options.rpn}")
    find = rpn_proposals(
        rpn, len(other.categories) + 1, other.attributes, count=options.max_proposals
    )
    compiled = jax.jit(find, out_shardings=replicated(mesh))
    variables = replicate(variables, mesh)

    def propose(inputs: Inputs) -> Inputs:
        found = jax.device_get(compiled(variables, shard_batch(inputs, mesh)))
        rows = len(inputs.valid)
        return inputs._replace(proposals=jax.tree.map(lambda x: x[:rows], found))

    return propose
