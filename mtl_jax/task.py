"""What a config says of the model and of its pictures: from a ConfigDict to options."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar

from ml_collections import ConfigDict

from mtl_jax.attributes import declarations as attribute_kinds
from mtl_jax.attributes.base import Attribute
from mtl_jax.config.defaults import get_default
from mtl_jax.config.fields import as_tuples
from mtl_jax.config.options.data import DataOptions, SourceOptions
from mtl_jax.config.options.evaluation import EvalOptions, ViewOptions
from mtl_jax.config.options.hyperface import HyperFaceOptions
from mtl_jax.config.options.mask_mtl import MaskMTLOptions
from mtl_jax.config.options.mask_rcnn import MaskRCNNOptions
from mtl_jax.config.options.training import LoopOptions, Stage
from mtl_jax.config.overrides import override
from mtl_jax.data.face_masks.apply import with_masks
from mtl_jax.data.records import Category
from mtl_jax.errors import UserError, wrong_type
from mtl_jax.evals.accumulate import Evaluator, metric_names
from mtl_jax.evals.coco import AREAS
from mtl_jax.models.hyperface.network import hyperface
from mtl_jax.models.mask_mtl.network import mask_mtl
from mtl_jax.models.mask_rcnn.network import mask_rcnn
from mtl_jax.types import Model

Options = TypeVar("Options")


@dataclass(frozen=True)
class Task:
    """What a config says of the model and of how pictures reach it."""

    config: ConfigDict
    categories: tuple[Category, ...]
    attributes: tuple[Attribute, ...]
    data: DataOptions
    model: Model

    @classmethod
    def from_config(
        cls, config: ConfigDict, categories: Sequence[Category], views: ViewOptions | None = None
    ) -> "Task":
        """Build what `config` says; its model detects in `views`."""
        declared = read_attributes(config)
        views = views or ViewOptions()
        data = read_options(DataOptions, config.data)
        data = replace(data, resize=data.resize.zoomed(max(views.scales)))
        model = build_model(config, len(categories) + 1, declared, views)
        return cls(config, tuple(categories), declared, data, model)

    @property
    def metadata(self) -> dict[str, Any]:
        """What a checkpoint says of itself; `Task.from_metadata` reads it."""
        categories = [category._asdict() for category in self.categories]
        return {"config": self.config.to_dict(), "categories": categories}

    @property
    def training_data(self) -> DataOptions:
        """How records reach training: a HyperFace wants regions, stretched to its input."""
        if self.config.family != "hyperface":
            return self.data
        side = self.config.model.input_size
        resize = replace(self.data.resize, mode="stretch", canvases=((side, side),))
        # How much of a face a region shows is what the regions' own rules are about.
        return replace(self.data, resize=resize, max_instances=1, min_visible=0.0)

    @classmethod
    def from_metadata(cls, stored: Mapping[str, Any], overrides: Sequence[str] = ()) -> "Task":
        """Build what a checkpoint says, to detect in the views of `config.eval`."""
        config = get_default(stored["config"].get("family", "mask_rcnn"))
        with config.unlocked(), config.ignore_type():
            config.update(as_tuples(stored["config"]))
        override(config, overrides)
        views = read_options(ViewOptions, config.eval)
        return cls.from_config(config, [Category(**c) for c in stored["categories"]], views)


def build_model(
    config: ConfigDict, num_classes: int, declared: tuple[Attribute, ...], views: ViewOptions
) -> Model:
    """Build the model of `config.family`. Raises UserError where the config does not fit it."""
    parts = read_options(LoopOptions, config.train).accumulate
    for name in ("pixel_mean", "pixel_std"):
        numbers, channels = config.model.get(name, (0.0,)), config.data.channels
        if len(numbers) not in (1, channels):
            raise UserError(
                f"config.model.{name} has {len(numbers)} numbers, and config.data.channels is "
                f"{channels}; give one number, or one for each channel"
            )
    expected = set(get_default(config.family).model)
    if missing := sorted(expected - set(config.model)):
        raise UserError(
            f"config.model has no {missing[0]!r}: it is of another family than {config.family!r};"
            f" begin the config file with get_default({config.family!r})"
        )
    try:
        match config.family:
            case "hyperface":
                if views != ViewOptions():
                    raise UserError("config.eval.flip and .scales are not of hyperface models")
                if tuple(config.data.augment.scale) != (1.0, 1.0):
                    raise UserError(
                        "config.data.augment.scale is not of hyperface models; config.data.regions "
                        "says how large faces are in regions"
                    )
                options = read_options(HyperFaceOptions, config.model)
                return hyperface(options, num_classes, declared, parts)
            case "mask_mtl":
                options = read_options(MaskMTLOptions, config.model)
                if options.head.pool == "flatten":
                    _check_one_canvas(config)
                return mask_mtl(options, declared, parts, views)
            case _:
                options = read_options(MaskRCNNOptions, config.model)
                whole = config.data.mask_size == 0
                return mask_rcnn(options, num_classes, declared, whole, parts, views)
    except ValueError as error:
        raise UserError(str(error)) from None


def _check_one_canvas(config: ConfigDict) -> None:
    resize = config.data.resize
    several = resize.mode in ("shorter", "square") and len(resize.canvases) > 1
    if several or resize.mode in ("none", "pad64"):
        raise UserError(
            "config.model.head.pool 'flatten' has weights for each cell of one canvas; let "
            "config.data.resize give one, or use 'mean'"
        )


def has_masks(config: ConfigDict) -> bool:
    """Say whether a config's model predicts masks."""
    return config.family == "mask_rcnn" and config.model.mask_head.enabled


def has_boxes(config: ConfigDict) -> bool:
    """Say whether a config's model says where things are, not just what a picture shows."""
    if config.family == "hyperface":
        return config.model.detection.enabled
    return config.family == "mask_rcnn"


def check_family(config: ConfigDict, what: str) -> None:
    """Raise UserError where a config's model is no Mask R-CNN, which alone has `what`."""
    if config.family != "mask_rcnn":
        raise UserError(f"{what} is of mask_rcnn models alone, and this one is a {config.family}")


def make_evaluator(task: Task) -> Evaluator:
    """Build the evaluator that `config.eval` says. Raises UserError where the attributes or the
    data have not what it asks for.
    """
    options = read_options(EvalOptions, task.config.eval)
    undeclared = with_masks(task.attributes)[len(task.attributes) :]
    try:
        return Evaluator(task.categories, task.attributes, options, undeclared)
    except ValueError as error:
        raise UserError(str(error)) from None


def changed_outputs(task: Task, stored: Mapping[str, Any]) -> list[str]:
    """Give patterns of the output layers that mean something else here than in a checkpoint.

    Shapes alone do not tell: two classes of other names, an age of another range.
    """
    patterns = []
    changed = stored["categories"] != task.metadata["categories"]
    if changed and has_boxes(task.config):
        patterns.append(r"/(class_logits|box_deltas)/")
        if has_masks(task.config):
            patterns.append("/mask_logits")
    declared = {a.name: a for a in read_attributes(ConfigDict(as_tuples(stored["config"])))}
    for attribute in task.attributes:
        there = declared.get(attribute.name)
        if there is None or replace(there, weight=attribute.weight) != attribute:
            patterns.append(f"/(visible_)?{attribute.name}_output/")
    return patterns


def read_sources(config: ConfigDict) -> SourceOptions:
    for i, block in enumerate(config.data.sources):
        if not isinstance(block, Mapping):
            raise UserError(f"config.data.sources[{i}] is {block!r} and must be a block, as dict()")
    return read_options(SourceOptions, config.data)


def read_stages(config: ConfigDict) -> tuple[Stage, ...]:
    """Build the stages of a config. Raises UserError where they are none, or no such stages."""
    defaults = vars(Stage())
    stages = []
    for i, stage in enumerate(as_tuples(config.stages)):
        if not isinstance(stage, Mapping) or not set(stage) <= set(defaults):
            known = ", ".join(defaults)
            raise UserError(f"config.stages[{i}] is {stage!r} and must be a dict of {known}")
        for name, value in stage.items():
            if wanted := wrong_type(value, defaults[name]):
                raise UserError(f"config.stages[{i}].{name} is {value!r} and must be {wanted}")
        try:
            stages.append(Stage(**stage))
        except ValueError as error:
            raise UserError(f"config.stages[{i}].{error}") from None
    if not stages:
        raise UserError("config.stages is empty; name one stage or more")
    return tuple(stages)


def read_attributes(config: ConfigDict) -> tuple[Attribute, ...]:
    """Build the attributes that a config declares."""
    try:
        return attribute_kinds.from_config(as_tuples(config.attributes))
    except ValueError as error:
        raise UserError(f"config.attributes: {error}") from None


def read_options(kind: type[Options], values: Mapping[str, Any] | ConfigDict) -> Options:
    """Build the options dataclass `kind` from those fields of a config that are its own.

    What a run of an older version does not say has its default.
    """
    values, chosen = as_tuples(values), {}
    for field in fields(kind):  # type: ignore[arg-type]
        if field.name not in values:
            continue
        value = values[field.name]
        nested = isinstance(field.type, type) and is_dataclass(field.type)
        chosen[field.name] = read_options(field.type, value) if nested else value  # type: ignore
    try:
        return kind(**chosen)
    except ValueError as error:
        raise UserError(f"config: {error}") from None


def check_best_metric(task: Task) -> str:
    """Give `config.eval.best_metric`: a metric, or a loss of the validation. Raises UserError where
    the model has none of that name.
    """
    options = read_options(EvalOptions, task.config.eval)
    masks = has_masks(task.config)
    known = metric_names(task.categories, task.attributes, masks, options)
    known += [f"{kind}/AP_{size}" for kind in ("box", "mask")[: 1 + masks] for size in AREAS[1:]]
    if task.config.eval.loss:
        known += [f"loss/{name}" for name in ("loss", *task.model.weights)]
    if options.best_metric not in known:
        raise UserError(
            f"config.eval.best_metric {options.best_metric!r} is none of {', '.join(known)}"
        )
    return options.best_metric
