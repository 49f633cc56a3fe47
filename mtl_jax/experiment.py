"""Training, tuning and evaluation of a config."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path

import jax
from jax.sharding import Mesh

from mtl_jax.config.options.evaluation import higher_is_better
from mtl_jax.config.resolve import Experiment
from mtl_jax.data.datasets import sources, splits
from mtl_jax.data.datasets.access import check_run_folder
from mtl_jax.data.datasets.blocks import describe_people
from mtl_jax.data.datasets.subset import choose
from mtl_jax.data.face_masks.apply import with_masks
from mtl_jax.data.loader import pipeline
from mtl_jax.data.pixels import materialize
from mtl_jax.errors import UserError
from mtl_jax.evals.accumulate import Evaluator, metric_names
from mtl_jax.evals.coco import AREAS
from mtl_jax.evals.error_analysis import ErrorAnalysis
from mtl_jax.inference.output import Predictions
from mtl_jax.io.atomic import write_json
from mtl_jax.runs import origin
from mtl_jax.runs.batches import MakeBatches, as_regions, train_batches
from mtl_jax.runs.data import open_data
from mtl_jax.runs.detection import after, detect, detect_with
from mtl_jax.runs.folder import lock_run, prepare_folder, removed_unless_done
from mtl_jax.runs.hosts import check_shared, describe_config, describe_data
from mtl_jax.runs.initial import initial_variables
from mtl_jax.runs.loading import Propose, Run, load_run, make_detect, make_propose
from mtl_jax.runs.objects import report_objects
from mtl_jax.runs.own_configs import note_config
from mtl_jax.runs.setup import Setup
from mtl_jax.runs.traced_programs import open_programs
from mtl_jax.training import tuning
from mtl_jax.training.checkpoint import Checkpointer
from mtl_jax.training.compilation_cache import enable_compilation_cache
from mtl_jax.training.gradient_balancing import make_balancing
from mtl_jax.training.loop import fit
from mtl_jax.training.metric_writer import MetricWriter
from mtl_jax.training.sharding import agreement, join_hosts, make_mesh
from mtl_jax.training.stages import trainable
from mtl_jax.training.step import make_eval_loss
from mtl_jax.training.step_logger import NonFiniteLossError
from mtl_jax.types import Variables


def train(
    experiment: Experiment,
    workdir: Path,
    hosts: bool = False,
    batches: MakeBatches | None = None,
) -> None:
    """Train a resolved config in a run folder, or resume from its latest checkpoint.

    `hosts` joins the other hosts of a cluster. `batches` returns the training batches from a step
    on; the default is `train_batches`. Raises UserError if the data is invalid, or if the folder
    has a run of another config.
    """
    if hosts:
        join_hosts()
    with ExitStack() as stack:
        with agreement(workdir) as facts:
            stack.enter_context(lock_run(workdir, alone=jax.process_index() == 0))
            done = prepare_folder(workdir, experiment)
            facts |= describe_config(experiment.config, done)
        check_shared(workdir)
        _train(experiment, workdir, done, batches or train_batches)


def _train(experiment: Experiment, workdir: Path, done: int, batches: MakeBatches) -> None:
    enable_compilation_cache()
    loop, total = experiment.train, experiment.steps
    note_config(experiment)
    if done == total and not Checkpointer(workdir / "checkpoints").awaits_metrics(done):
        print(f"{workdir}: all {total} steps are done")
        return
    if done:
        print(f"{workdir}: resuming after step {done}")
    config, stored = workdir / "config.json", workdir / "splits.json"
    new_files = (config, stored, workdir / origin.NAME)
    with removed_unless_done(*new_files), agreement(workdir) as facts:
        # Before the split: after a kill, a stored split belongs to the stored config.
        write_json(config, experiment.config)
        opened = sources.open_sources(
            experiment.sources, experiment.attributes, stored, wanted=("train", "val")
        )
        facts |= describe_data(opened)
        training, validation = opened["train"], opened["val"]
        if not training.sources:
            raise UserError(f"{workdir}: the config's data has no records for split 'train'")
        if not done:  # otherwise reported when the run began
            report_objects(opened, experiment)
        setup = Setup.build(experiment, training.categories)
        training = as_regions(setup, training.repeated(), workdir / "proposals")
        if loop.patience and not validation.sources:
            raise UserError(
                f"{workdir}: config.train.patience requires a validation split, and the data has "
                "none"
            )
        best = check_best_metric(setup)
        make_evaluator(setup)
        mesh = make_mesh()
        loop.check_devices(mesh.size)
        propose = make_propose(setup, mesh, workdir / "proposals")
        variables = initial_variables(setup, loop.seed, new=not done)
        if not done:
            origin.write_origin(workdir, origin.describe(experiment, opened["train"]))
    checkpointer = Checkpointer(
        workdir / "checkpoints",
        setup.metadata,
        f"val/{best}",
        "max" if higher_is_better(best) else "min",
    )
    try:
        fit(
            setup.model,
            variables,
            experiment.stages,
            experiment.optimizer,
            partial(batches, setup, training, loop),
            make_validator(setup, validation, mesh, propose),
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


def find(experiment: Experiment, target: str) -> str:
    """Find a learning rate, or the largest batch size that fits in memory, for the first stage.

    `target` is 'learning_rate' or 'batch_size'. Returns the text to print, which ends with the
    override to use. Raises UserError if not even the smallest batch fits.
    """
    enable_compilation_cache()
    training = sources.open_split(experiment.sources, experiment.attributes, "train")
    setup = Setup.build(experiment, training.categories)
    training = as_regions(setup, training.repeated())
    loop, options = experiment.train, experiment.optimizer
    variables, mesh = initial_variables(setup, loop.seed), make_mesh()
    mask = trainable(variables["params"], experiment.stages[0].layers)
    if target == "learning_rate":
        batches = train_batches(setup, training, loop, 0)
        tried = tuning.try_learning_rates(
            setup.model, variables, batches, options, mask, mesh, parts=loop.accumulate
        )
        lines = [f"{t.rate:<12.2e}{t.loss:.4f}" for t in tried[:: max(1, len(tried) // 25)]]
        found = tuning.suggest_learning_rate(tried)
        return "\n".join(
            ["rate        loss", *lines, f"--config.optimizer.learning_rate={found:g}"]
        )
    memory, multiple = tuning.device_memory(), mesh.size * loop.accumulate
    balancing = make_balancing(loop.balance, loop.balancing, setup.model, variables)

    def memory_of(count: int) -> int:
        batch = next(train_batches(setup, training, replace(loop, batch_size=count), 0))
        return tuning.step_memory(
            setup.model, variables, batch, options, mask, mesh, loop.ema, balancing, loop.accumulate
        )

    found = tuning.largest_batch(memory_of, memory, multiple)
    if not found:
        raise UserError(
            f"a batch of {multiple} images requires more than 80 % of {memory / 2**30:.1f} GiB of "
            "memory; use a smaller model or smaller images"
        )
    return f"80 % of {memory / 2**30:.1f} GiB of memory: --config.train.batch_size={found}"


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation."""

    folder: Path
    evaluator: Evaluator
    analysis: ErrorAnalysis
    metrics: dict[str, float]
    channels: int  # of the images
    has_boxes: bool  # whether the model detects objects
    people: tuple[str, ...] = ()  # a description of the labels for each source of people
    trivial: Mapping[str, float] = field(default_factory=dict)  # of the best constant predictor


def evaluate(
    workdir: Path,
    split: str,
    step: str,
    data: str = "",
    overrides: Sequence[str] = (),
    *,
    baseline: bool = False,
    name: str = "",
    trust: bool = False,
) -> Evaluation:
    """Evaluate a run on a split, or on all images of the folder `data`.

    Writes to `RUN/evaluation/NAME`; `name` defaults to the split's name, or external for `data`:

    metrics.json      all metrics
    config.json       the config of the evaluation
    checkpoint.json   the split, and the step of the evaluated checkpoint
    predictions.json  the detections with the data set's image ids and, if there are several
                      sources, the names of the sources
    landmarks.json    landmark errors, if the model predicts landmarks

    `baseline` also computes the metrics of the best constant predictor fitted to the training
    labels. `config.eval.coverage` adds prediction intervals on split test, calibrated on split val;
    their coverage is not guaranteed for other data. `trust` is that of `load_run`. Raises UserError
    if the split has no records.
    """
    if name == ".." or name != Path(name).name:
        raise UserError(f"evaluation name {name!r} is invalid; it must be the name of a folder")
    run = load_run(workdir, step, overrides, workdir / "proposals", trust=trust)
    experiment = run.setup.experiment
    check_run_folder(workdir, experiment.sources.named)
    if data:
        split, opened = (
            "external",
            sources.open_external(
                data, experiment.sources, run.attributes, categories=run.categories
            ),
        )
    else:
        opened = open_data(experiment, split, workdir, run.categories)
    if not opened.sources:
        there = [s for s in splits.NAMES if open_data(experiment, s, workdir).sources]
        raise UserError(
            f"{workdir}: the config's data has no records for split {split!r}; it has records for "
            f"{', '.join(there) or 'no split'}"
        )
    evaluator = make_evaluator(run.setup)
    analysis = ErrorAnalysis(run.categories, experiment.eval)
    if experiment.eval.coverage and split == "test":
        evaluator.calibrate(evaluate_validation(run, workdir))
    folder = workdir / "evaluation" / (name or split)
    with Predictions(folder, run.attributes) as predictions:
        for source, of_source in zip(opened.names, opened.sources, strict=True):
            own = {"source": source} if len(opened.sources) > 1 else {}
            for record, result in detect_with(run, [of_source]):
                evaluator.add(record, result)
                analysis.add(record, result)
                entries = result.to_json(record.image_id, record.file_name)
                evaluator.add_intervals(entries)
                predictions.add({**entry, **own} for entry in entries)
    metrics = evaluator.metrics()
    write_json(folder / "metrics.json", metrics | evaluator.group_metrics())
    write_json(folder / "config.json", experiment.config)
    write_json(folder / origin.EVALUATED, {"checkpoint": run.version, "split": split})
    if evaluator.faces.landmarks is not None:
        write_json(folder / "landmarks.json", evaluator.faces.summary())
    people = describe_people(experiment.sources)
    trivial: dict[str, float] = {}
    if baseline:
        training = open_data(experiment, "train", workdir, run.categories).sources
        records = (materialize(source[i]) for source in training for i in range(len(source)))
        trivial = evaluator.trivial_metrics(records)
    return Evaluation(
        folder,
        evaluator,
        analysis,
        metrics,
        run.channels,
        experiment.has_boxes,
        people,
        trivial,
    )


def evaluate_validation(run: Run, workdir: Path) -> Evaluator:
    """Evaluate a run on split val, to calibrate prediction intervals."""
    opened = open_data(run.setup.experiment, "val", workdir, run.categories)
    if not opened.sources:
        raise UserError(
            f"{workdir}: config.eval.coverage requires a validation split, and the data has none"
        )
    evaluator = make_evaluator(run.setup)
    for record, result in detect_with(run, opened.sources):
        evaluator.add(record, result)
    return evaluator


def make_validator(
    setup: Setup,
    held_out: sources.Opened,
    mesh: Mesh,
    propose: Propose | None = None,
) -> Callable[[Variables, int], dict[str, float]] | None:
    """Return the validation function of training, or None if there are no held-out records.

    It maps variables and a step to metrics by name, with prefix `val/`.
    """
    checks = setup.experiment.eval
    if not held_out.sources:
        return None
    if checks.images:
        held_out = held_out._replace(sources=choose(held_out.sources, checks.images))
    seen = as_regions(setup, held_out).sources  # inputs of the loss
    predict = make_detect(setup.model, mesh, open_programs(setup))
    losses = make_eval_loss(setup.model, mesh)

    def validate(variables: Variables, step: int) -> dict[str, float]:
        del step
        evaluator = make_evaluator(setup)
        predict_proposed = after(propose, partial(predict, variables))
        for record, result in detect(predict_proposed, held_out.sources, setup):
            evaluator.add(record, result)
        metrics = evaluator.metrics()
        if checks.loss:
            batches = chain.from_iterable(
                pipeline.eval_batches(
                    source,
                    setup.attributes,
                    setup.experiment.training_data,
                    batch_size=checks.batch_size,
                )
                for source in seen
            )
            metrics |= {f"loss/{k}": v for k, v in losses(variables, batches).items()}
        # Without detections there are no errors: NaN is worse than every number.
        metrics = {checks.best_metric: math.nan, **metrics}
        return {f"val/{name}": value for name, value in metrics.items()}

    return validate


def make_evaluator(setup: Setup) -> Evaluator:
    """Build the evaluator of `config.eval`. Raises UserError if it requires attributes or classes
    that do not exist.
    """
    undeclared = with_masks(setup.attributes)[len(setup.attributes) :]
    try:
        return Evaluator(setup.categories, setup.attributes, setup.experiment.eval, undeclared)
    except ValueError as error:
        raise UserError(str(error)) from None


def check_best_metric(setup: Setup) -> str:
    """Return `config.eval.best_metric`, a metric or a validation loss.

    Raises UserError if the model has no metric or loss of that name.
    """
    options, masks = setup.experiment.eval, setup.experiment.has_masks
    known = metric_names(setup.categories, setup.attributes, masks, options)
    known += [f"{kind}/AP_{size}" for kind in ("box", "mask")[: 1 + masks] for size in AREAS[1:]]
    if options.loss:
        known += [f"loss/{name}" for name in ("loss", *setup.model.weights)]
    if options.best_metric not in known:
        raise UserError(
            f"config.eval.best_metric is {options.best_metric!r}; it must be one of "
            f"{', '.join(known)}"
        )
    return options.best_metric
