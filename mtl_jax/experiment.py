"""From a config to a trained and evaluated model."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mtl_jax.config.options.evaluation import EvalOptions, ValidationOptions, higher_is_better
from mtl_jax.config.options.training import InitOptions, LoopOptions, OptimizerOptions
from mtl_jax.data.datasets import sources, splits
from mtl_jax.data.datasets.blocks import describe_people
from mtl_jax.data.datasets.regions import cut_regions
from mtl_jax.data.datasets.subset import choose
from mtl_jax.data.loader import pipeline, transforms
from mtl_jax.data.pixels import resolve
from mtl_jax.data.records import Category
from mtl_jax.errors import UserError
from mtl_jax.evals.accumulate import Evaluator
from mtl_jax.evals.error_analysis import Evidence
from mtl_jax.images.resize import resize_geometry
from mtl_jax.inference.output import Predictions
from mtl_jax.io.atomic import write_json
from mtl_jax.runs.folder import lock_run, prepare_folder, removed_unless_done
from mtl_jax.runs.loading import (
    Propose,
    Run,
    after,
    detect,
    load_run,
    make_detect,
    make_propose,
    read_checkpoint,
)
from mtl_jax.task import (
    Task,
    changed_outputs,
    check_best_metric,
    has_boxes,
    make_evaluator,
    read_attributes,
    read_options,
    read_sources,
    read_stages,
)
from mtl_jax.training import tuning as finding
from mtl_jax.training.checkpoint import Checkpointer
from mtl_jax.training.compilation_cache import enable_compilation_cache
from mtl_jax.training.gradient_balancing import make_balancing
from mtl_jax.training.loop import fit
from mtl_jax.training.metric_writer import MetricWriter
from mtl_jax.training.sharding import join_hosts, make_mesh
from mtl_jax.training.stages import trainable
from mtl_jax.training.step import make_eval_loss
from mtl_jax.training.step_logger import NonFiniteLossError
from mtl_jax.training.transfer import format_table, transfer
from mtl_jax.types import Batch, Variables

MakeBatches = Callable[[Task, sources.Opened, LoopOptions, int], Iterator[Batch]]


def train(
    config: ConfigDict,
    workdir: Path,
    hosts: bool = False,
    batches: MakeBatches | None = None,
) -> None:
    """Train a config in a run's folder; go on from the latest checkpoint where it has one.

    `batches` makes those of training from a step on, `train_batches` by default.
    """
    if hosts:
        join_hosts()
    with lock_run(workdir, alone=jax.process_index() == 0):
        _train(config, workdir, batches or train_batches)


def _train(config: ConfigDict, workdir: Path, batches: MakeBatches) -> None:
    enable_compilation_cache()
    loop = read_options(LoopOptions, config.train)
    stages = read_stages(config)
    total = sum(stage.steps for stage in stages)
    done = prepare_folder(workdir, config, total)
    if done == total:
        print(f"{workdir}: all {total} steps are done")
        return
    if done:
        print(f"{workdir}: goes on after step {done}")
    with removed_unless_done(workdir / "splits.json"):
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
        training = as_regions(task, training.repeated(), workdir / "proposals")
        checks = read_options(ValidationOptions, config.eval)
        optimizer = read_options(OptimizerOptions, config.optimizer)
        if loop.patience and not validation.sources:
            raise UserError(f"{workdir}: config.train.patience wants records of the split val")
        best = check_best_metric(task)
        make_evaluator(task)
        mesh = make_mesh()
        loop.check_devices(mesh.size)
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
            partial(batches, task, training, loop),
            make_validator(task, validation, checks, mesh, propose),
            checkpointer,
            MetricWriter(workdir, total, active=jax.process_index() == 0),
            mesh,
            loop,
            partial(pipeline.file_names, training.sources),
        )
    except NonFiniteLossError as error:
        raise UserError(f"{workdir}: {error}") from None
    finally:
        checkpointer.close()
    print(f"run: {workdir}")


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
    training = as_regions(task, training.repeated())
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
    balancing = make_balancing(loop.balance, loop.balancing, task.model, variables)

    def memory_of(count: int) -> int:
        batch = next(train_batches(task, training, replace(loop, batch_size=count), 0))
        return finding.step_memory(
            task.model, variables, batch, options, mask, mesh, loop.ema, balancing
        )

    found = finding.largest_batch(memory_of, memory, multiple)
    if not found:
        raise UserError(f"a batch of {multiple} takes more than 80 % of {memory / 2**30:.1f} GiB")
    return f"80 % of {memory / 2**30:.1f} GiB hold --config.train.batch_size={found}"


@dataclass(frozen=True)
class Evaluation:
    """What a run's evaluation gave."""

    folder: Path
    evaluator: Evaluator
    evidence: Evidence
    metrics: dict[str, float]
    channels: int  # of the pictures
    has_boxes: bool  # whether the model says where things are
    people: tuple[str, ...] = ()  # what the labels of people are, a line for each source of such
    trivial: Mapping[str, float] = field(default_factory=dict)  # what the best constants score


def evaluate(
    workdir: Path,
    split: str,
    step: str,
    data: str = "",
    overrides: Sequence[str] = (),
    *,
    baseline: bool = False,
    name: str = "",
) -> Evaluation:
    """Evaluate a run on a split, or on the whole of the folder `data`; write to
    `RUN/evaluation/NAME`, by default the split's name (external), metrics.json, beside it the
    config.json that it was done with, predictions.json with the data's own ids of pictures and,
    where several sources are evaluated, the name of each entry's source, and landmarks.json where
    the model gives landmarks.
    With `baseline` the training labels are gone through, and what the best constants would score is
    given beside.

    With `config.eval.coverage` the split test gets intervals, and val is gone through before, to
    calibrate them; they promise nothing of other pictures.
    """
    if name == ".." or name != Path(name).name:
        raise UserError(f"the evaluation's name {name!r} is no name of a folder")
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
        there = [s for s in splits.NAMES if open_data(run.task.config, s, workdir).sources]
        raise UserError(
            f"{workdir}: the config's data has no records for split {split!r}; it has for "
            f"{', '.join(there) or 'none'}"
        )
    options = read_options(EvalOptions, run.task.config.eval)
    evaluator, evidence = make_evaluator(run.task), Evidence(run.categories, options)
    if options.coverage and split == "test":
        evaluator.calibrate(evaluate_validation(run, workdir))
    folder = workdir / "evaluation" / (name or split)
    with Predictions(folder, run.attributes) as predictions:
        for source, of_source in zip(opened.names, opened.sources, strict=True):
            own = {"source": source} if len(opened.sources) > 1 else {}
            for record, result in run.detect([of_source]):
                evaluator.add(record, result)
                evidence.add(record, result)
                entries = result.to_json(record.image_id, record.file_name)
                evaluator.add_intervals(entries)
                predictions.add({**entry, **own} for entry in entries)
    metrics = evaluator.metrics()
    write_json(folder / "metrics.json", metrics | evaluator.group_metrics())
    write_json(folder / "config.json", run.task.config.to_dict())
    if evaluator.faces.landmarks is not None:
        write_json(folder / "landmarks.json", evaluator.faces.summary())
    people = describe_people(read_sources(run.task.config))
    trivial: dict[str, float] = {}
    if baseline:
        training = open_data(run.task.config, "train", workdir, run.categories).sources
        records = (resolve(source[i]) for source in training for i in range(len(source)))
        trivial = evaluator.trivial_metrics(records)
    return Evaluation(
        folder,
        evaluator,
        evidence,
        metrics,
        run.channels,
        has_boxes(run.task.config),
        people,
        trivial,
    )


def evaluate_validation(run: Run, workdir: Path) -> Evaluator:
    """Evaluate a run on its split val."""
    opened = open_data(run.task.config, "val", workdir, run.categories)
    if not opened.sources:
        raise UserError(
            f"{workdir}: config.eval.coverage wants records of the split val; there are none"
        )
    evaluator = make_evaluator(run.task)
    for record, result in run.detect(opened.sources):
        evaluator.add(record, result)
    return evaluator


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
    if checks.pictures:
        held_out = held_out._replace(sources=choose(held_out.sources, checks.pictures))
    seen = as_regions(task, held_out).sources  # as the loss sees them
    predict = make_detect(task.model, mesh)
    losses = make_eval_loss(task.model, mesh)

    def validate(variables: Variables, step: int) -> dict[str, float]:
        del step
        evaluator = make_evaluator(task)
        predict_proposed = after(propose, partial(predict, variables))
        for record, result in detect(predict_proposed, held_out.sources, task, checks.batch_size):
            evaluator.add(record, result)
        metrics = evaluator.metrics()
        if checks.loss:
            batches = chain.from_iterable(
                pipeline.eval_batches(
                    source, task.attributes, task.training_data, batch_size=checks.batch_size
                )
                for source in seen
            )
            metrics |= {f"loss/{k}": v for k, v in losses(variables, batches).items()}
        # Where nothing was found there is no error to measure: not a number is the worst of all.
        metrics = {task.config.eval.best_metric: math.nan, **metrics}
        return {f"val/{name}": value for name, value in metrics.items()}

    return validate


def initial_variables(task: Task, seed: int, new: bool = True) -> Variables:
    """Initialise a model; that of a new run from `config.init.checkpoint` where one is named, and
    print what it gave.
    """
    variables = jax.jit(task.model.init)(jax.random.key(seed), _empty_batch(task))
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


def variable_shapes(task: Task) -> Variables:
    """Return the shapes and types of a model's variables; nothing is compiled."""
    return jax.eval_shape(task.model.init, jax.random.key(0), _empty_batch(task))


def _empty_batch(task: Task) -> Batch:
    canvas, _ = resize_geometry(512, 512, task.data.resize)
    row = transforms.empty_row(canvas, task.attributes, task.data)
    return jax.tree.map(lambda x: x[None], row)


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
