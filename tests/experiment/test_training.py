"""Tests of train.py: the files of a run, and runs that are killed, resumed or started with another
config.
"""

import json
import math
import os
import re
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
import scripts
from mistakes import check_names
from small_run import ARGUMENTS, CONFIG, lines, variables

from mtl_jax import experiment
from mtl_jax.config.fields import as_tuples
from mtl_jax.config.overrides import load_config_file, override
from mtl_jax.config.resolve import resolve
from mtl_jax.data.datasets.subset import Subset
from mtl_jax.data.synthetic.head_scenes import SyntheticSource
from mtl_jax.runs.folder import read_config
from mtl_jax.training.checkpoint import Checkpointer
from mtl_jax.training.state import TrainState


def test_a_run_folder_has_all_files(trained):
    run = trained.folder
    names = {path.name for path in run.iterdir()}
    (events,) = (name for name in names if name.startswith("events."))
    assert names == {
        "config.json",
        "origin.json",
        "splits.json",
        "checkpoints",
        "metrics.jsonl",
        events,
    }
    assert sorted(Checkpointer(run / "checkpoints").steps())[-1] == 5
    trained_steps = [line["step"] for line in lines(run) if "train/loss" in line]
    validated = [line["step"] for line in lines(run) if "val/box/AP" in line]
    assert (trained_steps, validated) == ([1, 2, 3, 4, 5], [2, 4, 5])
    last = lines(run)[-1]
    declared = read_config(run / "config.json").attributes
    terms = {k.removeprefix("val/loss/"): v for k, v in last.items() if k.startswith("val/loss/")}
    total = terms.pop("loss")
    weights = {f"attribute/{name}": options.weight for name, options in declared.items()}
    assert set(weights) < set(terms)
    weighted = sum(weights.get(name, 1.0) * value for name, value in terms.items())
    assert math.isclose(total, weighted, rel_tol=1e-5)
    splits = json.loads((run / "splits.json").read_text())
    assert {
        split: {k: len(v) for k, v in found.items() if v} for split, found in splits.items()
    } == {
        "train": {"train": 10},
        "val": {"val": 4},
        "test": {"test": 9},
    }


def test_each_stage_and_the_validation_are_compiled_once(trained):
    counted = {name: trained.compiled.count(name) for name in ("train_step", "predict", "sums")}
    assert counted == {"train_step": 2, "predict": 1, "sums": 1}


def test_config_json_read_back_is_the_config(trained):
    config = load_config_file(CONFIG)
    override(config, ARGUMENTS)
    read = read_config(trained.folder / "config.json")
    assert as_tuples(read) == as_tuples(config)
    assert repr(sorted_tree(read)) == repr(sorted_tree(config))  # also the types
    override(read, ["--config.data.resize.canvases=((64,64),)"])
    assert read.data.resize.canvases == ((64, 64),)


def test_training_repeats_rare_classes(monkeypatch, tmp_path):
    monkeypatch.setattr(experiment, "initial_variables", lambda *args, **options: {})
    monkeypatch.setattr(experiment, "fit", lambda *args: args[4](0))  # requests batches
    config = load_config_file(CONFIG)
    override(config, [*ARGUMENTS, "--config.data.sources[0].repeat_threshold=1"])
    seen = []

    def batches(setup, data, loop, step):
        seen.append(data)

    experiment.train(resolve(config), tmp_path, batches=batches)
    (source,) = seen[0].sources
    assert isinstance(source, Subset)
    assert len(source.source) == 10


@pytest.mark.parametrize("done", [0, 1])
def test_objects_are_counted_only_when_a_run_begins(monkeypatch, tmp_path, done):
    counted = []
    monkeypatch.setattr(experiment, "initial_variables", lambda *args, **options: {})
    monkeypatch.setattr(experiment, "fit", lambda *args: None)
    monkeypatch.setattr(experiment, "prepare_folder", lambda *args: done)
    monkeypatch.setattr(experiment, "report_objects", lambda *args: counted.append(args))
    config = load_config_file(CONFIG)
    override(config, ARGUMENTS)
    experiment.train(resolve(config), tmp_path)
    assert len(counted) == (not done)


def sorted_tree(value):
    value = value.to_dict() if hasattr(value, "to_dict") else value
    if isinstance(value, dict):
        return {key: sorted_tree(value[key]) for key in sorted(value)}
    return tuple(map(sorted_tree, value)) if isinstance(value, tuple) else value


def test_a_finished_run_is_left_alone(trained, monkeypatch):
    def refuse(*args, **options):
        raise AssertionError("data was opened")

    monkeypatch.setattr(experiment.sources, "open_sources", refuse)
    before = contents(trained.folder)
    done = scripts.call("train", "--config", CONFIG, "--workdir", trained.folder, *ARGUMENTS)
    assert (done.code, done.err) == (0, "")
    check_names(done.out, trained.folder, 5)
    assert contents(trained.folder) == before


def contents(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_another_config_is_refused_with_the_fields_that_differ(trained):
    arguments = (
        *ARGUMENTS,
        "--config.train.seed=8",
        "--config.attributes.age.weight=31",
        "--config.stages[0].layers=all",
        "--config.train.log_every=7",
    )
    done = scripts.call("train", "--config", CONFIG, "--workdir", trained.folder, *arguments)
    age = read_config(trained.folder / "config.json").attributes.age.weight
    line = scripts.mistake(done, trained.folder, "--workdir")
    for field, old, new in (
        ("attributes.age.weight", age, 31.0),
        ("stages[0].layers", "heads", "all"),
        ("train.seed", 0, 8),
    ):
        check_names(line.partition(field)[2].partition(")")[0], old, new)
    assert "log_every" not in line
    done = scripts.call(
        "train",
        "--config",
        CONFIG,
        "--workdir",
        trained.folder,
        *ARGUMENTS,
        "--config.stages[1].steps=1",
    )
    scripts.mistake(done, trained.folder, "config.stages", 5, 3)


@pytest.mark.slow
def test_a_run_is_resumed_with_more_steps_and_other_logging(copy, trained):
    more = (
        "--config.stages[1].steps=5",
        "--config.train.log_every=2",
        "--config.train.eval_every=0",
    )
    done = scripts.call("train", "--config", CONFIG, "--workdir", copy, *ARGUMENTS, *more)
    assert done.code == 0, done
    assert lines(copy)[: len(lines(trained.folder))] == lines(trained.folder)
    assert [line["step"] for line in lines(copy)[len(lines(trained.folder)) :]] == [6, 7, 7]
    assert Checkpointer(copy / "checkpoints").latest() == 7


@pytest.mark.slow
def test_a_killed_run_ends_with_identical_weights(trained, tmp_path):
    # Checkpoints are saved at steps 2 (end of the first stage, validated), 3, 4 (validated) and 5.
    # The run is killed in the first stage before the first checkpoint, and within the second stage.
    command = ["--config", CONFIG, "--workdir", tmp_path / "run", *ARGUMENTS]
    other_saves = ["--config.train.eval_every=0"]
    for kill_at, latest in ((2, None), (5, 3)):
        killed = subprocess.run(
            [sys.executable, scripts.ROOT / "tests/killed_run.py", str(kill_at)]
            + [str(argument) for argument in command + other_saves],
            env={**os.environ, "PYTHONPATH": f"{scripts.ROOT}{os.pathsep}{scripts.ROOT / 'tests'}"},
            capture_output=True,
            text=True,
        )
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        folder = tmp_path / "run" / "checkpoints"
        assert (Checkpointer(folder, {}).latest()) == latest
    done = scripts.start("train", *command)
    assert done.code == 0, done.err
    expected, actual = variables(trained.folder), variables(tmp_path / "run")
    assert set(actual) == set(expected)
    for name in expected:
        assert actual[name].tobytes() == expected[name].tobytes(), name
    losses = [
        [x for x in lines(run) if "train/loss" in x] for run in (tmp_path / "run", trained.folder)
    ]
    assert losses[0] == losses[1]
    assert lines(tmp_path / "run")[-1] == lines(trained.folder)[-1]


@pytest.mark.slow
def test_four_devices_train_like_one(tmp_path):
    # A batch of three images is padded to four rows for four devices. The second loss depends on
    # the gradient of the first step. Dropout is off: rounding can exchange regions of nearly equal
    # scores, which then have different dropout masks.
    arguments = (
        *ARGUMENTS,
        "--config.model.attribute_head.dropout=0.0",
        "--config.stages=({'layers':'heads','steps':2,'learning_rate':0.0},)",
        "--config.train.eval_every=0",
        "--config.eval.loss=False",
    )
    for devices in (1, 4):
        flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
        command = ("--config", CONFIG, "--workdir", tmp_path / str(devices), *arguments)
        done = scripts.start("train", *command, XLA_FLAGS=flags)
        assert done.code == 0, done.err
    for one, four in zip(lines(tmp_path / "1"), lines(tmp_path / "4"), strict=True):
        assert one.keys() == four.keys()
        for name in one:
            if not name.startswith("val/"):  # after two steps, ranks of equal scores
                np.testing.assert_allclose(four[name], one[name], rtol=1e-5, err_msg=name)
    assert [line["step"] for line in lines(tmp_path / "4")] == [1, 2, 2]


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_the_run_and_is_not_saved(trained, tmp_path):
    # Weights multiplied by 1e30 are loaded with config.init.checkpoint.
    source = Checkpointer(trained.folder / "checkpoints")
    huge = jax.tree.map(lambda x: x * np.float32(1e30), source.restore_variables("latest"))
    state = TrainState(np.int32(1), huge["params"], huge["batch_stats"], {}, np.bool_(True))
    Checkpointer(tmp_path / "huge/checkpoints", source.metadata()).save(state, 1)
    done = scripts.call(
        "train", "--config", CONFIG, "--workdir", tmp_path / "run", *ARGUMENTS,
        f"--config.init.checkpoint={tmp_path / 'huge'}",
    )  # fmt: skip
    line = scripts.mistake(done, "box_class")
    assert line.startswith(f"{tmp_path / 'run'}:")
    check_names(line.partition("box_class")[0], 1)  # the step
    names = re.findall(r"\w+\.png", line)
    assert len(names) == 3
    known = {SyntheticSource(10, seed=0)[i].file_name for i in range(10)}
    assert set(names) <= known
    assert Checkpointer(tmp_path / "run/checkpoints", {}).latest() is None


@pytest.mark.slow
def test_a_learning_rate_is_found_before_training(tmp_path):
    config = scripts.ROOT / "configs/rcnn_face.py:tiny"  # has the fastest steps
    done = scripts.call(
        "train", "--config", config, "--find", "learning_rate", "--workdir", tmp_path
    )
    assert done.code == 0
    *_, last = done.out.splitlines()
    rate = float(last.removeprefix("--config.optimizer.learning_rate="))
    assert 1e-6 <= rate <= 1
    assert list(tmp_path.iterdir()) == []
