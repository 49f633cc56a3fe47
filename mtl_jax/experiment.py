"""From a config to a trained, evaluated or loaded model: the one file that reads a ConfigDict."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mtl_jax import attributes as attribute_kinds
from mtl_jax import images
from mtl_jax.attributes import Attribute
from mtl_jax.commandline import override
from mtl_jax.data import masked, pipeline, sources, transforms
from mtl_jax.data.blocks import describe_people
from mtl_jax.data.options import DataOptions, RegionOptions
from mtl_jax.data.proposals import BatchSearch
from mtl_jax.data.records import Category, Record, Source
from mtl_jax.data.regions import cut_regions
from mtl_jax.data.sources import SourceOptions
from mtl_jax.defaults import InitOptions, ValidationOptions, get_default
from mtl_jax.errors import UserError
from mtl_jax.evals.accumulate import Evaluator, metric_names
from mtl_jax.evals.evidence import Evidence
from mtl_jax.evals.options import EvalOptions, higher_is_better
from mtl_jax.models.hyperface import hyperface
from mtl_jax.models.hyperface_options import FaceDetectionOptions, HyperFaceOptions
from mtl_jax.models.mask_mtl import mask_mtl
from mtl_jax.models.mask_rcnn import mask_rcnn
from mtl_jax.models.options import MaskMTLOptions, MaskRCNNOptions, ViewOptions
from mtl_jax.models.rpn_proposals import rpn_proposals
from mtl_jax.results import Result
from mtl_jax.run_folder import as_tuples, prepare_folder
from mtl_jax.training import find as finding
from mtl_jax.training.checkpoint import Checkpointer
from mtl_jax.training.compilation_cache import enable_compilation_cache
from mtl_jax.training.loop import LoopOptions, fit
from mtl_jax.training.metric_writer import MetricWriter
from mtl_jax.training.optimizer import OptimizerOptions, make_optimizer
from mtl_jax.training.pack import read_pack
from mtl_jax.training.recorder import NonFiniteLossError
from mtl_jax.training.sharding import join_hosts, make_mesh, replicate, replicated, shard_batch
from mtl_jax.training.stages import Stage, trainable
from mtl_jax.training.state import start_stage
from mtl_jax.training.step import make_eval_loss
from mtl_jax.training.transfer import format_table, transfer
from mtl_jax.types import Batch, Detections, Model, Variables
from mtl_jax.whole_files import write_json

Options = TypeVar("Options")
Predict = Callable[[Batch], Detections]
Propose = Callable[[Batch], Batch]  # puts proposals in
# What may change when a run is evaluated; the rest is what it was trained as.
EVALUATION = ("data.", "eval.", "model.detection.")


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
        return replace(self.data, resize=resize, max_instances=1)

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
                options = read_options(HyperFaceOptions, as_tuples(config.model))
                return hyperface(options, num_classes, declared, parts)
            case "mask_mtl":
                options = read_options(MaskMTLOptions, as_tuples(config.model))
                return mask_mtl(options, declared, parts, views)
            case _:
                options = read_options(MaskRCNNOptions, config.model)
                whole = config.data.mask_size == 0
                return mask_rcnn(options, num_classes, declared, whole, parts, views)
    except ValueError as error:
        raise UserError(str(error)) from None


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


@dataclass(frozen=True)
class Run:
    """A trained model, ready to detect."""

    task: Task
    variables: Variables
    batch_size: int
    predict: Predict
    propose: Propose | None = None  # of a model that is told where to look: before `predict`

    @property
    def resize(self) -> images.ResizeOptions:
        return self.task.data.resize

    @property
    def channels(self) -> int:
        return self.task.data.channels

    @property
    def categories(self) -> Sequence[Category]:
        return self.task.categories

    @property
    def attributes(self) -> Sequence[Attribute]:
        return self.task.attributes


def train(config: ConfigDict, workdir: Path, hosts: bool = False) -> None:
    """Train a config in a run's folder; go on from the latest checkpoint where it has one."""
    if hosts:
        join_hosts()
    enable_compilation_cache()
    loop = read_options(LoopOptions, config.train)
    stages = read_stages(config)
    total = sum(stage.steps for stage in stages)
    done = prepare_folder(workdir, config, total)
    if done == total:
        print(f"{workdir}: all {total} steps are done")
        return
    opened = sources.open_sources(
        read_sources(config),
        read_attributes(config),
        workdir / "splits.json",
        wanted=("train", "val"),
    )
    training, validation = opened["train"], opened["val"]
    if not training.sources:
        raise UserError(f"{workdir}: the config's data has no records for split 'train'")
    task = Task.from_config(config, training.categories)
    training = as_regions(task, training, workdir / "proposals")
    checks = read_options(ValidationOptions, config.eval)
    optimizer = read_options(OptimizerOptions, config.optimizer)
    best = check_best_metric(task)
    make_evaluator(task)
    mesh = make_mesh()
    propose = make_propose(task, mesh, workdir / "proposals")
    write_json(workdir / "config.json", config.to_dict())
    checkpointer = Checkpointer(
        workdir / "checkpoints",
        task.metadata,
        f"val/{best}",
        "max" if higher_is_better(best) else "min",
    )
    try:
        fit(
            task.model,
            initial_variables(task, loop.seed, new=not done),
            stages,
            optimizer,
            partial(train_batches, task, training, loop),
            make_validator(task, validation, checks, mesh, propose),
            checkpointer,
            MetricWriter(workdir, total),
            mesh,
            loop,
            partial(pipeline.file_names, training.sources),
        )
    except NonFiniteLossError as error:
        raise UserError(f"{workdir}: {error}") from None
    finally:
        checkpointer.close()


def train_batches(
    task: Task, training: sources.Opened, loop: LoopOptions, start_step: int
) -> Iterator[Batch]:
    """Give the batches of training from a step on."""
    return pipeline.train_batches(
        training.sources,
        training.weights,
        task.attributes,
        task.training_data,
        batch_size=loop.batch_size,
        seed=loop.seed,
        start_step=start_step,
    )


def as_regions(task: Task, opened: sources.Opened, folder: Path | None = None) -> sources.Opened:
    """Give regions of the pictures of sources, where training is on such; selective search is kept
    in `folder`, and without one regions are jittered.
    """
    options = task.data.regions
    if not options.proposals:
        return opened
    if folder is None:
        options = replace(options, proposals="jitter")
    cut = cut_regions(opened.sources, task.attributes, options, folder or Path())
    return opened._replace(sources=cut)


def find(config: ConfigDict, wanted: str) -> str:
    """Find a learning rate, or the batch size that memory holds, for a config's first stage; give
    the lines that say it.
    """
    enable_compilation_cache()
    training = sources.open_split(read_sources(config), read_attributes(config), "train")
    task = Task.from_config(config, training.categories)
    training = as_regions(task, training)
    loop = read_options(LoopOptions, config.train)
    options = read_options(OptimizerOptions, config.optimizer)
    variables, mesh = initial_variables(task, loop.seed), make_mesh()
    mask = trainable(variables["params"], read_stages(config)[0].layers)
    if wanted == "learning_rate":
        batches = train_batches(task, training, loop, 0)
        tried = finding.try_learning_rates(task.model, variables, batches, options, mask, mesh)
        lines = [f"{t.rate:<12.2e}{t.loss:.4f}" for t in tried[:: max(1, len(tried) // 25)]]
        found = finding.suggest_learning_rate(tried)
        return "\n".join(
            ["rate        loss", *lines, f"--config.optimizer.learning_rate={found:g}"]
        )
    memory, multiple = finding.device_memory(), mesh.size * loop.accumulate

    def memory_of(count: int) -> int:
        batch = next(train_batches(task, training, replace(loop, batch_size=count), 0))
        return finding.step_memory(task.model, variables, batch, options, mask, mesh)

    found = finding.largest_batch(memory_of, memory, multiple)
    if not found:
        raise UserError(f"a batch of {multiple} takes more than 80 % of {memory / 2**30:.1f} GiB")
    return f"80 % of {memory / 2**30:.1f} GiB hold --config.train.batch_size={found}"


@dataclass(frozen=True)
class Evaluation:
    """What a run's evaluation gave."""

    folder: Path  # RUN/evaluation/SPLIT
    evaluator: Evaluator
    evidence: Evidence
    metrics: dict[str, float]
    channels: int  # of the pictures
    people: tuple[str, ...] = ()  # what the labels of people are, a line for each source of such


def evaluate(
    workdir: Path, split: str, step: str, data: str = "", overrides: Sequence[str] = ()
) -> Evaluation:
    """Evaluate a run on a split, or on the whole of the folder `data`; write metrics.json, and
    landmarks.json where the model gives landmarks.

    With `config.eval.coverage` the split test gets intervals, and val is gone through before, to
    calibrate them; they promise nothing of other pictures.
    """
    for argument in overrides:
        if not argument.removeprefix("--config.").startswith(EVALUATION):
            allowed = ", ".join(f"config.{name}*" for name in EVALUATION)
            raise UserError(f"{argument}: a trained model's; only {allowed} may be set here")
    run = load_run(workdir, step, overrides, workdir / "proposals")
    if data:
        split, opened = (
            "external",
            sources.open_external(
                data, read_sources(run.task.config), run.attributes, categories=run.categories
            ),
        )
    else:
        opened = open_data(run.task.config, split, workdir, run.categories)
    if not opened.sources:
        raise UserError(f"{workdir}: the config's data has no records for split {split!r}")
    options = read_options(EvalOptions, run.task.config.eval)
    evaluator, evidence = make_evaluator(run.task), Evidence(run.categories, options)
    if options.coverage and split == "test":
        evaluator.calibrate(evaluate_validation(run, workdir))
    predict = after(run.propose, run.predict)
    for record, result in detect(predict, opened.sources, run.task, run.batch_size):
        evaluator.add(record, result)
        evidence.add(record, result)
    metrics, folder = evaluator.metrics(), workdir / "evaluation" / split
    write_json(folder / "metrics.json", metrics | evaluator.group_metrics())
    if evaluator.faces.landmarks is not None:
        write_json(folder / "landmarks.json", evaluator.faces.summary())
    people = describe_people(read_sources(run.task.config))
    return Evaluation(folder, evaluator, evidence, metrics, run.channels, people)


def evaluate_validation(run: Run, workdir: Path) -> Evaluator:
    """Evaluate a run on its split val."""
    opened = open_data(run.task.config, "val", workdir, run.categories)
    if not opened.sources:
        raise UserError(
            f"{workdir}: config.eval.coverage wants records of the split val; there are none"
        )
    evaluator = make_evaluator(run.task)
    predict = after(run.propose, run.predict)
    for record, result in detect(predict, opened.sources, run.task, run.batch_size):
        evaluator.add(record, result)
    return evaluator


def make_evaluator(task: Task) -> Evaluator:
    """Build the evaluator that `config.eval` says. Raises UserError where the attributes or the
    data have not what it asks for.
    """
    options = read_options(EvalOptions, as_tuples(task.config.eval))
    known = [*(attribute.name for attribute in task.attributes), masked.LABEL, masked.COVERED]
    if unknown := [name for name, _ in options.groups if name not in known]:
        raise UserError(
            f"config.eval.groups names {unknown[0]!r}, which is none of {', '.join(known)}"
        )
    try:
        return Evaluator(task.categories, task.attributes, options)
    except ValueError as error:
        raise UserError(str(error)) from None


def load_run(
    workdir: str | Path,
    step: str | int = "best",
    overrides: Sequence[str] = (),
    proposals: Path | None = None,
) -> Run:
    """Load a run's model from its folder, or from its packed file, alone. What selective search
    finds is kept in the folder `proposals`, if there is one.
    """
    enable_compilation_cache()
    metadata, variables = read_checkpoint(workdir, step)
    task = Task.from_metadata(metadata, overrides)
    mesh = make_mesh()
    detect = make_detect(task.model, mesh)
    variables = replicate(variables, mesh)
    batch_size = task.config.eval.batch_size
    propose = make_propose(task, mesh, proposals)
    return Run(task, variables, batch_size, partial(detect, variables), propose)


def read_checkpoint(path: str | Path, step: str | int) -> tuple[dict[str, Any], Variables]:
    """Give the metadata and the variables of a run's checkpoint, or of a packed file."""
    if Path(path).is_file():
        return read_pack(Path(path))
    try:
        checkpointer = Checkpointer(Path(path) / "checkpoints")
        return checkpointer.metadata(step), checkpointer.restore_variables(step)
    except FileNotFoundError as error:
        raise UserError(str(error)) from None


def save_run(workdir: Path, task: Task, variables: Variables) -> None:
    """Make a RUN of variables that were not trained here. Raises UserError where one is there."""
    if (workdir / "checkpoints").exists():
        raise UserError(f"{workdir} holds a run; use another --workdir")
    write_json(workdir / "config.json", task.config.to_dict())
    optimizer = make_optimizer(OptimizerOptions(), 1, 0.0)
    state = start_stage(variables, optimizer, trainable(variables["params"], "all"), make_mesh())
    checkpointer = Checkpointer(workdir / "checkpoints", task.metadata)
    checkpointer.save(state, step=0)
    checkpointer.close()


def make_detect(model: Model, mesh: Mesh) -> Callable[[Variables, Batch], Detections]:
    """Compile detection: a NumPy batch in, NumPy detections of its rows out."""
    compiled = jax.jit(model.predict, out_shardings=replicated(mesh))

    def detect(variables: Variables, batch: Batch) -> Detections:
        rows = len(batch.valid)
        found = jax.device_get(compiled(variables, shard_batch(batch, mesh)))
        return jax.tree.map(lambda x: x[:rows], found)

    return detect


def make_propose(task: Task, mesh: Mesh, folder: Path | None = None) -> Propose | None:
    """Give what puts proposals into batches as `config.model.detection` says; None where a model
    wants none. What selective search finds is kept in `folder`, if there is one.
    """
    if task.config.family != "hyperface":
        return None
    options = read_options(FaceDetectionOptions, task.config.model.detection)
    if options.proposals == "windows" or not options.enabled:
        return None
    if options.proposals == "rpn":
        return _make_rpn_propose(task, options, mesh)
    if task.data.channels not in (1, 3):
        raise UserError(f"selective search reads no pictures of {task.data.channels} channels")
    search = RegionOptions(options.proposals, search_side=task.data.regions.search_side)
    return BatchSearch(search, options.max_proposals, folder)


def _make_rpn_propose(task: Task, options: FaceDetectionOptions, mesh: Mesh) -> Propose:
    """Load the run of `config.model.detection.rpn`; it sees the canvases of this task."""
    field = "config.model.detection.rpn"
    if not options.rpn:
        raise UserError(f"{field} is empty; name the RUN of a mask_rcnn, or take other proposals")
    try:
        metadata, variables = read_checkpoint(options.rpn, "best")
    except UserError as error:
        raise UserError(f"{field}: {error}") from None
    other = Task.from_metadata(metadata)
    check_family(other.config, f"{field} {options.rpn}: an RPN")
    if other.data.channels != task.data.channels:
        channels = f"{other.data.channels} channels, this model {task.data.channels}"
        raise UserError(f"{field} {options.rpn}: reads pictures of {channels}")
    rpn = read_options(MaskRCNNOptions, other.config.model)
    find = rpn_proposals(
        rpn, len(other.categories) + 1, other.attributes, count=options.max_proposals
    )
    compiled = jax.jit(find, out_shardings=replicated(mesh))
    variables = replicate(variables, mesh)

    def propose(batch: Batch) -> Batch:
        found = jax.device_get(compiled(variables, shard_batch(batch, mesh)))
        rows = len(batch.valid)
        return batch._replace(proposals=jax.tree.map(lambda x: x[:rows], found))

    return propose


def after(propose: Propose | None, predict: Predict) -> Predict:
    """Give detection with its proposals."""
    return predict if propose is None else lambda batch: predict(propose(batch))


def make_validator(
    task: Task,
    held_out: sources.Opened,
    checks: ValidationOptions,
    mesh: Mesh,
    propose: Propose | None = None,
) -> Callable[[Variables, int], dict[str, float]] | None:
    """Give the function that measures a model during training; None without held-out records."""
    if not held_out.sources:
        return None
    seen = as_regions(task, held_out).sources[0]  # as the loss sees it
    predict = make_detect(task.model, mesh)
    losses = make_eval_loss(task.model, mesh)

    def validate(variables: Variables, step: int) -> dict[str, float]:
        del step
        evaluator = make_evaluator(task)
        predict_proposed = after(propose, partial(predict, variables))
        found = detect(predict_proposed, held_out.sources, task, checks.batch_size)
        for record, result in islice(found, checks.pictures or None):
            evaluator.add(record, result)
        metrics = evaluator.metrics()
        if checks.loss:
            batches = pipeline.eval_batches(
                seen, task.attributes, task.training_data, batch_size=checks.batch_size
            )
            if checks.pictures:
                batches = islice(batches, -(-checks.pictures // checks.batch_size))
            metrics |= {f"loss/{k}": v for k, v in losses(variables, batches).items()}
        # Where nothing was found there is no error to measure: not a number is the worst of all.
        metrics = {task.config.eval.best_metric: math.nan, **metrics}
        return {f"val/{name}": value for name, value in metrics.items()}

    return validate


def detect(
    predict: Predict, held_out: Sequence[Source], task: Task, batch_size: int
) -> Iterator[tuple[Record, Result]]:
    """Give every record of sources with what is found on it, in the picture's own pixels."""
    for source in held_out:
        batches = pipeline.eval_batches(source, task.attributes, task.data, batch_size=batch_size)
        for batch in batches:
            detections = predict(batch)
            for row in np.flatnonzero(batch.valid).tolist():
                record = source[int(batch.index[row])]
                height, width = record.height, record.width
                _, geometry = images.fit(height, width, task.data.resize)
                result = Result.from_detections(
                    detections,
                    row,
                    geometry,
                    height,
                    width,
                    categories=task.categories,
                    declared=task.attributes,
                )
                yield record, result


def initial_variables(task: Task, seed: int, new: bool = True) -> Variables:
    """Initialise a model; that of a new run from `config.init.checkpoint` where one is named, and
    print what it gave.
    """
    canvas, _ = images.fit(512, 512, task.data.resize)
    row = transforms.empty_row(canvas, task.attributes, task.data)
    batch = jax.tree.map(lambda x: x[None], row)
    variables = jax.jit(task.model.init)(jax.random.key(seed), batch)
    init = read_options(InitOptions, task.config.init)
    if not init.checkpoint or not new:
        return variables
    try:
        metadata, loaded = read_checkpoint(init.checkpoint, init.step)
        changed = changed_outputs(task, metadata)
        variables, rows = transfer(variables, loaded, [*init.exclude, *changed])
    except UserError as error:
        raise UserError(f"config.init.checkpoint {init.checkpoint}: {error}") from None
    print(format_table(rows))
    return variables


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


def open_data(
    config: ConfigDict, split: str, workdir: Path, categories: Sequence[Category] = ()
) -> sources.Opened:
    """Open the records of a split; the run's splits.json says which they are."""
    return sources.open_split(
        read_sources(config),
        read_attributes(config),
        split,
        workdir / "splits.json",
        categories=categories,
    )


def read_sources(config: ConfigDict) -> SourceOptions:
    for i, block in enumerate(config.data.sources):
        if not isinstance(block, Mapping):
            raise UserError(f"config.data.sources[{i}] is {block!r} and must be a block, as dict()")
    return read_options(SourceOptions, as_tuples(config.data))


def read_stages(config: ConfigDict) -> tuple[Stage, ...]:
    """Build the stages of a config. Raises UserError where they are none, or of no steps."""
    defaults = vars(Stage())
    stages = []
    for i, stage in enumerate(as_tuples(config.stages)):
        if not isinstance(stage, Mapping) or not set(stage) <= set(defaults):
            known = ", ".join(defaults)
            raise UserError(f"config.stages[{i}] is {stage!r} and must be a dict of {known}")
        stages.append(Stage(**stage))
        if stages[-1].steps < 1:
            raise UserError(f"config.stages[{i}].steps is {stages[-1].steps}; give 1 or more")
        if stages[-1].learning_rate < 0:
            raise UserError(f"config.stages[{i}].learning_rate is negative; 0 is the optimizer's")
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
    chosen = {}
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
    """Give `config.eval.best_metric`. Raises UserError where the model has no metric of that
    name.
    """
    options = read_options(EvalOptions, task.config.eval)
    known = metric_names(task.categories, task.attributes, has_masks(task.config), options)
    if options.best_metric not in known:
        raise UserError(
            f"config.eval.best_metric {options.best_metric!r} is none of {', '.join(known)}"
        )
    return options.best_metric
