"""Resolution of a config: conversion to option dataclasses, with all checks."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar

from ml_collections import ConfigDict

from mtl_jax.attributes import declarations
from mtl_jax.attributes.base import Attribute
from mtl_jax.config.blocks import blocks_of, with_names
from mtl_jax.config.defaults import FAMILIES, get_default, get_stored_default
from mtl_jax.config.fields import as_tuples
from mtl_jax.config.options.data import SHORT, DataOptions, SourceOptions
from mtl_jax.config.options.evaluation import EvalOptions, ViewOptions
from mtl_jax.config.options.hyperface import HyperFaceOptions
from mtl_jax.config.options.mask_mtl import MaskMTLOptions
from mtl_jax.config.options.mask_rcnn import MaskRCNNOptions
from mtl_jax.config.options.training import InitOptions, LoopOptions, OptimizerOptions, Stage
from mtl_jax.config.overrides import load_config_file, override, texts_of
from mtl_jax.errors import UserError, wrong_type

Options = TypeVar("Options")
NO_VIEWS = ViewOptions()
ModelOptions = MaskRCNNOptions | MaskMTLOptions | HyperFaceOptions


@dataclass(frozen=True)
class Experiment:
    """A resolved config: the options of every part of a run."""

    family: str
    model: ModelOptions
    attributes: tuple[Attribute, ...]
    sources: SourceOptions
    data: DataOptions
    init: InitOptions
    optimizer: OptimizerOptions
    stages: tuple[Stage, ...]
    train: LoopOptions
    eval: EvalOptions
    config: Mapping[str, Any]  # the config, in the form in which it is stored
    views: ViewOptions = NO_VIEWS  # views in which the model predicts

    @property
    def steps(self) -> int:
        """The number of steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    @property
    def training_data(self) -> DataOptions:
        """The data options of training batches. For HyperFace, which is trained on regions, images
        are stretched to the network's input size.
        """
        if not isinstance(self.model, HyperFaceOptions):
            return self.data
        side = self.model.input_size
        resize = replace(self.data.resize, mode="stretch", canvases=((side, side),))
        # Regions are sampled by IoU, which determines how much of a face is visible.
        return replace(self.data, resize=resize, max_instances=1, min_visible=0.0)

    @property
    def has_masks(self) -> bool:
        """Whether the model predicts masks."""
        return isinstance(self.model, MaskRCNNOptions) and self.model.mask_head.enabled

    @property
    def exact_masks(self) -> bool:
        """Whether predicted masks are sampled in the exact box, not as in torchvision."""
        return isinstance(self.model, MaskRCNNOptions) and self.model.mask_head.exact

    @property
    def has_boxes(self) -> bool:
        """Whether the model detects objects, rather than describing the whole image."""
        if isinstance(self.model, HyperFaceOptions):
            return self.model.detection.enabled
        return isinstance(self.model, MaskRCNNOptions)

    def mask_rcnn(self, what: str) -> MaskRCNNOptions:
        """Return the model options if the family is mask_rcnn.

        Raises UserError otherwise; the message starts with `what`, which requires that family.
        """
        if not isinstance(self.model, MaskRCNNOptions):
            raise UserError(f"{what} requires family 'mask_rcnn'; this model is {self.family!r}")
        return self.model

    def in_views(self) -> "Experiment":
        """Return a copy whose model predicts in the views of `config.eval`.

        Images are resized to the largest of the views' scales.
        """
        views = self.eval.views
        resize = self.data.resize.zoomed(max(views.scales))
        return replace(self, views=views, data=replace(self.data, resize=resize))


def resolve(config: ConfigDict) -> Experiment:
    """Check a config and convert it to options. Raises UserError with one line for each mistake."""
    faults: list[str] = []
    family = config.get("family", "mask_rcnn")
    if family not in FAMILIES:
        get_default(family)  # raises UserError that lists the families
    plain = as_tuples(with_names(config))
    if missing := sorted(set(get_default(family).model) - set(config.model)):
        raise UserError(
            f"config.model has no field {missing[0]!r}, which family {family!r} requires; start "
            f"the config file from get_default({family!r})"
        )
    experiment = Experiment(
        family,
        _read(FAMILIES[family], plain["model"], faults, "model"),
        _read_attributes(plain["attributes"], faults),
        _read_sources(plain["data"], faults),
        _read(DataOptions, plain["data"], faults, "data"),
        _read(InitOptions, plain.get("init", {}), faults, "init"),
        _read(OptimizerOptions, plain.get("optimizer", {}), faults, "optimizer"),
        _read_stages(plain["stages"], faults),
        _read(LoopOptions, plain.get("train", {}), faults, "train"),
        _read(EvalOptions, plain.get("eval", {}), faults, "eval"),
        plain,
    )
    if not faults:
        faults += _model_faults(experiment)
    if faults:
        raise UserError("\n".join(f"config.{fault}" for fault in faults))
    return experiment


def from_stored(
    stored: Mapping[str, Any], overrides: Sequence[str] = (), trust: bool = False
) -> Experiment:
    """Resolve the config stored in a run or checkpoint, after applying `overrides`.

    Fields that are missing from a run of an earlier version have the defaults of the options.
    Without `trust`, its data is opened with the restrictions of a run that somebody else trained,
    except paths in `overrides`.
    """
    config = get_stored_default(stored.get("family", "mask_rcnn"))
    with config.unlocked(), config.ignore_type():
        config.update(as_tuples(stored))
    override(config, overrides)
    experiment = resolve(config)
    if trust:
        return experiment
    return replace(experiment, sources=replace(experiment.sources, named=texts_of(overrides)))


def load_experiment(spec: str, overrides: Sequence[str] = ()) -> Experiment:
    """Load and resolve the config of `spec`, as `load_config_file` reads it, with `overrides`.

    Raises UserError with one line for each mistake in the config file or the overrides.
    """
    config = load_config_file(spec)
    try:
        override(config, overrides)
    except UserError as wrong:
        try:
            resolve(config)
        except UserError as more:
            lines = f"{wrong}\n{more}".splitlines()
            raise UserError("\n".join(dict.fromkeys(lines))) from None
        raise
    return resolve(config)


def _read(kind: type[Options], values: Mapping[str, Any], faults: list[str], where: str) -> Options:
    """Build options of type `kind`, which are `config.WHERE`, from its fields in `values`; other
    fields are ignored.

    If fields are invalid, append the faults to `faults` and return the defaults.
    """
    chosen = {}
    for field in fields(kind):  # type: ignore[arg-type]
        if field.name not in values:
            continue
        value, name = values[field.name], f"{where}.{field.name}"
        if isinstance(field.type, type) and is_dataclass(field.type):
            chosen[field.name] = _read(field.type, value, faults, name)  # type: ignore
        elif expected := wrong_type(value, field.type):
            faults.append(f"{name} is {value!r}; it must be {expected}")
        else:
            chosen[field.name] = value
    try:
        return kind(**chosen)
    except ValueError as error:
        faults += str(error).splitlines()
        return kind()


def _read_attributes(declared: Mapping[str, Any], faults: list[str]) -> tuple[Attribute, ...]:
    found = []
    for name, options in declared.items():
        try:
            found += declarations.from_config({name: options})
        except ValueError as error:
            faults.append(f"attributes: {error}")
    return tuple(found)


def _read_sources(data: Mapping[str, Any], faults: list[str]) -> SourceOptions:
    from mtl_jax.data.datasets.blocks import complete, merge_short  # imports all readers

    named = blocks_of(data["sources"])
    blocks = tuple({"name": name, **block} for name, block in named.items())
    found: list[str] = []
    given = {**data, "sources": blocks}
    given.pop("named", None)  # not a field of a config
    options = _read(SourceOptions, given, found, "data")
    if found:
        faults += found
        return options
    has_data = blocks or any(vars(options)[name] for name in SHORT)  # not in a converted model
    for block in merge_short(options) if has_data else ():
        try:
            complete(block)
        except UserError as error:
            faults.append(str(error).removeprefix("config."))
    return options


def _read_stages(named: Mapping[str, Any], faults: list[str]) -> tuple[Stage, ...]:
    stages = []
    for name, block in blocks_of(named).items():
        known, where = vars(Stage()), f"stages.{name}"
        faults += [
            f"{where}.{key} is unknown; it must be one of {', '.join(known)}"
            for key in block
            if key not in known
        ]
        found: list[str] = []
        stages.append(_read(Stage, block, found, where))
        faults += [fault if fault.startswith(where) else f"{where}.{fault}" for fault in found]
    if not stages:
        faults.append("stages is empty; it must have at least one stage")
    return tuple(stages)


def _model_faults(experiment: Experiment) -> Iterator[str]:
    """Yield the faults of combinations of options from different parts of a config."""
    model, data = experiment.model, experiment.data
    for numbers in (model.pixel_mean, model.pixel_std):
        if len(numbers) not in (1, data.channels):
            yield (
                "model.pixel_mean and config.model.pixel_std must have one number, or one for each "
                f"channel; one has {len(numbers)}, and config.data.channels is {data.channels}"
            )
            break
    if isinstance(model, HyperFaceOptions):
        if experiment.eval.views != NO_VIEWS:
            yield "eval.flip and config.eval.scales are not supported by family 'hyperface'"
        if tuple(data.augment.scale) != (1.0, 1.0):
            yield (
                "data.augment.scale is not supported by family 'hyperface'; the size of faces is "
                "set by config.data.regions"
            )
    for attribute in experiment.attributes:
        if attribute.loss in attribute.dense_losses and experiment.family != "mask_rcnn":
            yield (
                f"attributes.{attribute.name}.loss {attribute.loss!r} requires family 'mask_rcnn'; "
                f"this config's family is {experiment.family!r}"
            )
    if isinstance(model, MaskMTLOptions) and experiment.eval.scales != (1.0,):
        yield "eval.scales must be (1.0,) for family 'mask_mtl', whose images have one size"
    if isinstance(model, MaskMTLOptions) and model.head.pool == "flatten":
        resize = data.resize
        several = resize.mode in ("shorter", "square") and len(resize.canvases) > 1
        if several or resize.mode in ("none", "pad64"):
            yield (
                "model.head.pool is 'flatten', which requires one image size; set "
                "config.data.resize to one size, or use 'mean'"
            )
