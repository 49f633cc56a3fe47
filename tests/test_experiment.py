"""The three scripts on the real model: one small run that most tests look at, and what becomes of
it when it is resumed, evaluated, moved or started from.
"""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import cv2
import jax
import numpy as np
import pytest
import scripts
from jax import monitoring

from mtl_jax import Predictor, experiment
from mtl_jax.commandline import load_config_file, override
from mtl_jax.data.records import Category
from mtl_jax.data.synthetic import SyntheticSource
from mtl_jax.evals.accumulate import metric_names
from mtl_jax.evals.options import higher_is_better
from mtl_jax.run_folder import as_tuples, read_config
from mtl_jax.task import Task, changed_outputs, read_attributes
from mtl_jax.training.checkpoint import Checkpointer

CONFIG = str(scripts.ROOT / "configs/mtl_synthetic.py:tiny")
# Everything random is on. A constant schedule compiles to one program for any number of steps.
ARGUMENTS = (
    "--config.model.attribute_head.dropout=0.3",
    "--config.data.augment.brightness=0.5",
    "--config.data.augment.scale=(0.8,1.3)",
    "--config.data.augment.rain=0.5",
    "--config.data.sources[0].length=10",
    "--config.data.sources[1].length=4",
    "--config.data.sources[2].length=9",
    "--config.optimizer.schedule=constant",
    "--config.stages[0].steps=2",
    "--config.stages[1].steps=3",
    "--config.train.batch_size=3",
    "--config.train.log_every=1",
    "--config.train.eval_every=2",
    "--config.train.checkpoint_every=3",
    "--config.eval.batch_size=3",
)


class Trained(NamedTuple):
    """A run of ARGUMENTS, and the programs that were compiled for it."""

    folder: Path
    compiled: list[str]


@pytest.fixture(scope="module")
def compiled():
    """Give the list to which the name of each program is added that is compiled from now on."""
    names: list[str] = []

    def listen(event, duration, **about):
        if event.endswith("backend_compile_duration"):
            names.append(about["fun_name"].removeprefix("jit(").removesuffix(")"))

    monitoring.register_event_duration_secs_listener(listen)
    yield names
    monitoring.unregister_event_duration_listener(listen)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, compiled):
    folder = tmp_path_factory.mktemp("run") / "whole"
    compiled.clear()
    done = scripts.call("train", "--config", CONFIG, "--workdir", folder, *ARGUMENTS)
    assert done.code == 0, done
    return Trained(folder, list(compiled))


@pytest.fixture
def copy(trained, tmp_path):
    """Give a copy of the run that a test may change, far from where it was trained."""
    return Path(shutil.copytree(trained.folder, tmp_path / "moved" / "run"))


def lines(run):
    """Give what was logged, but for the clock."""
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for line in found:
        line.pop("train/images_per_second", None)
    return found


def variables(run, step="latest"):
    tree = Checkpointer(run / "checkpoints").restore_variables(step)
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


@pytest.mark.slow
def test_a_run_holds_what_design_says(trained):
    run = trained.folder
    names = {path.name for path in run.iterdir()}
    (events,) = (name for name in names if name.startswith("events."))
    assert names == {"config.json", "splits.json", "checkpoints", "metrics.jsonl", events}
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


@pytest.mark.slow
def test_each_stage_and_the_validation_are_compiled_once(trained):
    counted = {name: trained.compiled.count(name) for name in ("train_step", "predict", "terms_of")}
    assert counted == {"train_step": 2, "predict": 1, "terms_of": 1}


@pytest.mark.slow
def test_config_json_read_back_is_the_config(trained):
    config = load_config_file(CONFIG)
    override(config, ARGUMENTS)
    read = read_config(trained.folder / "config.json")
    assert as_tuples(read) == as_tuples(config)
    assert repr(sorted_tree(read)) == repr(sorted_tree(config))  # 1 is not 1.0, a list no tuple
    override(read, ["--config.data.resize.canvases=((64,64),)"])
    assert read.data.resize.canvases == ((64, 64),)


def sorted_tree(value):
    value = value.to_dict() if hasattr(value, "to_dict") else value
    if isinstance(value, dict):
        return {key: sorted_tree(value[key]) for key in sorted(value)}
    return tuple(map(sorted_tree, value)) if isinstance(value, tuple) else value


@pytest.mark.slow
def test_a_finished_run_is_left_alone(trained, monkeypatch):
    def refuse(*args, **options):
        raise AssertionError("data was opened")

    monkeypatch.setattr(experiment.sources, "open_sources", refuse)
    before = contents(trained.folder)
    done = scripts.call("train", "--config", CONFIG, "--workdir", trained.folder, *ARGUMENTS)
    assert done == (0, f"{trained.folder}: all 5 steps are done\n", "")
    assert contents(trained.folder) == before


def contents(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
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
    assert scripts.mistake(done) == (
        f"{trained.folder} holds a run of another config: attributes.age.weight ({age} there, 31.0 "
        "now), stages[0].layers ('heads' there, 'all' now), train.seed (0 there, 8 now); use "
        "another --workdir"
    )
    done = scripts.call(
        "train",
        "--config",
        CONFIG,
        "--workdir",
        trained.folder,
        *ARGUMENTS,
        "--config.stages[1].steps=1",
    )
    assert scripts.mistake(done) == (
        f"{trained.folder}: 5 steps are done, and config.stages has only 3"
    )


@pytest.mark.slow
def test_more_steps_and_other_logging_go_on(copy, trained):
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
def test_a_run_that_was_killed_ends_with_the_same_bits(trained, tmp_path):
    # Saved are 2 (where the first stage ends; validated), 3, 4 (validated), 5: the kills fall into
    # the first stage before anything is saved, and into the middle of the second.
    command = ["--config", CONFIG, "--workdir", tmp_path / "run", *ARGUMENTS]
    other_saves = ["--config.train.eval_every=0"]
    for kill_at, latest in ((2, None), (5, 3)):
        killed = subprocess.run(
            [sys.executable, Path(__file__).parent / "killed_run.py", str(kill_at)]
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
def test_four_devices_are_one(tmp_path):
    # Three pictures do not divide among four devices: a row of padding stands among them. The
    # second loss follows from the first step's gradient. Dropout is off, since it tells regions of
    # nearly equal scores apart, which rounding may exchange.
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
            if not name.startswith("val/"):  # two steps find nothing: ranks of equal scores
                np.testing.assert_allclose(four[name], one[name], rtol=1e-5, err_msg=name)
    assert [line["step"] for line in lines(tmp_path / "4")] == [1, 2, 2]


@pytest.mark.slow
def test_a_loss_that_is_not_finite_stops_the_run_and_is_not_saved(trained, tmp_path):
    # Weights of 1e30 are loaded through config.init.checkpoint.
    source = Checkpointer(trained.folder / "checkpoints")
    huge = jax.tree.map(lambda x: x * np.float32(1e30), source.restore_variables("latest"))
    from mtl_jax.training.state import TrainState

    state = TrainState(np.int32(1), huge["params"], huge["batch_stats"], {}, np.bool_(True))
    Checkpointer(tmp_path / "huge/checkpoints", source.metadata()).save(state, 1)
    done = scripts.call(
        "train", "--config", CONFIG, "--workdir", tmp_path / "run", *ARGUMENTS,
        f"--config.init.checkpoint={tmp_path / 'huge'}",
    )  # fmt: skip
    line = scripts.mistake(done)
    assert line.startswith(f"{tmp_path / 'run'}: step 1: ")
    assert "box_class is " in line
    names = line.partition("images: ")[2].split(", ")
    assert len(names) == 3
    known = {SyntheticSource(10, seed=0)[i].file_name for i in range(10)}
    assert set(names) <= known
    assert Checkpointer(tmp_path / "run/checkpoints", {}).latest() is None


ATTRIBUTES = {
    "age": {"mae", "std"},
    "gender": {"accuracy", "macro_f1"},
    "smile": {"mae", "std", "accuracy"},
    "head": {f"{angle}/{name}" for angle in ("yaw", "pitch", "roll") for name in ("mae", "std")},
    "face": {"nme", "accuracy"},
}
COUNTS = {"instances", "labelled", "misses"}
# COCO's AP by size stands beside design.md's names, for the sizes that the data has.
SIZES = {f"{kind}/AP_{size}" for kind in ("box", "mask") for size in ("small", "medium", "large")}


def design_names(attributes, classes, masks):
    names = {
        f"{kind}/{name}"
        for kind in (("box", "mask") if masks else ("box",))
        for name in ("AP", "AP50", "AP75", *(f"AP/{name}" for name in classes))
    }
    names |= {f"{a}/{name}" for a, found in attributes.items() for name in found | COUNTS}
    return names | {"detections/false_alarms"}


def check_metrics(path, attributes, classes, masks):
    metrics = json.loads(path.read_text())
    more = {name for name in metrics if "/by_" in name or "/interval/" in name}
    expected = design_names(attributes, classes, masks)
    # An attribute of which nothing was found has no error, only misses.
    unfound = {
        f"{a}/{name}"
        for a, found in attributes.items()
        for name in found
        if metrics[f"{a}/misses"] == metrics[f"{a}/labelled"]
    }
    assert expected - unfound <= set(metrics) - more <= expected | SIZES
    assert all(isinstance(v, float) and math.isfinite(v) for v in metrics.values())
    return metrics


def test_the_names_of_metrics_are_known_before_training():
    config = load_config_file(CONFIG)
    declared = read_attributes(config)
    names = metric_names([Category(7, "head")], declared, masks=True)
    assert set(names) == design_names(ATTRIBUTES, ["head"], masks=True)
    assert {name for name in names if not higher_is_better(name)} == {
        *("age/mae", "age/std", "smile/mae", "smile/std", "face/nme"),
        *(f"head/{angle}/{n}" for angle in ("yaw", "pitch", "roll") for n in ("mae", "std")),
        *(f"{a}/misses" for a in ATTRIBUTES),
        "detections/false_alarms",
    }


@pytest.mark.slow
def test_evaluation_writes_its_numbers_and_compiles_once(copy, compiled):
    compiled.clear()
    # After four steps few boxes are right: every head counts that is touched.
    loose = "--config.eval.iou_threshold=0.01"
    done = scripts.call("evaluate", "--workdir", copy, "--step", "latest", loose)
    assert done.code == 0, done.err
    assert compiled.count("predict") == 1
    metrics = check_metrics(copy / "evaluation/test/metrics.json", ATTRIBUTES, ["head"], True)
    config = read_config(copy / "config.json")
    unseen = experiment.open_data(config, "test", copy).sources[0]
    assert len(unseen) == 9
    assert metrics["age/instances"] == sum(len(unseen[i].instances) for i in range(9))
    for word in ("AP50", "age", "yaw", "misses"):
        assert word in done.out
    done = scripts.call("evaluate", "--workdir", copy, "--split", "val", "--step", 5)
    assert done.code == 0, done.err
    validated = {k.removeprefix("val/"): v for k, v in lines(copy)[-1].items() if k != "step"}
    metrics = json.loads((copy / "evaluation/val/metrics.json").read_text())
    assert metrics == {k: v for k, v in validated.items() if not k.startswith("loss/")}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--split", "tset"), "split 'tset' is none of train, val, test; did you mean test?"),
        (("--step", "77"), "no checkpoint '77'; there are latest, best, "),
        (("--step", "lates"), "no checkpoint 'lates'; there are latest, best, "),
        (("--data", "/absent"), "/absent: no such folder or file"),
        (("--data", "."), "the config's data is synthetic, which reads no folder"),
        (("--config.model.backbone.depth=34",), "a trained model's; only config.data.*, "),
        (("--config.data.pathh=x",), "did you mean config.data.path?"),
    ],
)
def test_what_cannot_be_evaluated_is_one_line(trained, arguments, line):
    done = scripts.call("evaluate", "--workdir", trained.folder, *arguments)
    assert line in scripts.mistake(done)


FIELDS = {
    *("image_id", "file_name", "category_id", "category", "bbox", "score", "attributes"),
}


def write_pictures(folder):
    """Write three pictures of several sizes, one in a folder below."""
    sizes = {"a.png": (96, 140), "b.jpg": (200, 90), "deep/c.png": (33, 35)}
    for i, (name, (height, width)) in enumerate(sizes.items()):
        image = SyntheticSource(3, seed=5)[i].image
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), cv2.resize(np.asarray(image), (width, height)))
    return sizes


def check_predictions(output, sizes, attributes, names, masks):
    entries = json.loads((output / "predictions.json").read_text())
    assert entries
    for entry in entries:
        assert set(entry) == (FIELDS | {"segmentation"} if masks else FIELDS)
        height, width = sizes[entry["file_name"]]
        assert sorted(sizes).index(entry["file_name"]) == entry["image_id"]
        x, y, w, h = entry["bbox"]
        assert x >= 0
        assert y >= 0
        assert x + w <= width + 0.01
        assert y + h <= height + 0.01
        if masks:
            assert entry["segmentation"]["size"] == [height, width]
        assert (entry["category_id"], entry["category"]) in names
        assert 0 <= entry["score"] <= 1
        assert {name: set(found) for name, found in entry["attributes"].items()} == attributes
    for name, size in sizes.items():
        assert cv2.imread(str(output / "overlays" / f"{name}.png")).shape[:2] == size
    return entries


SHOWN = {
    "age": {"value"},
    "gender": {"label", "scores"},
    "smile": {"value"},
    "head": {"yaw", "pitch", "roll"},
    "face": {"points"},
}


@pytest.mark.slow
def test_predictions_from_a_folder_that_was_moved(copy, trained, tmp_path, monkeypatch):
    monkeypatch.delenv("MTL_JAX_DATA", raising=False)
    for name in ("splits.json", "metrics.jsonl"):
        (copy / name).unlink()
    sizes = write_pictures(tmp_path / "in")
    done = scripts.call(
        "predict", "--workdir", copy, "--input", tmp_path / "in", "--output", tmp_path / "out"
    )
    assert done.code == 0, done.err
    heads = {(c.id, c.name) for c in SyntheticSource(1, seed=0).categories}
    entries = check_predictions(tmp_path / "out", sizes, SHOWN, heads, masks=True)
    # The other way to the same: Predictor, a picture at a time.
    predictor = Predictor.from_checkpoint(copy)
    for i, name in enumerate(sorted(sizes)):
        result = predictor(tmp_path / "in" / name)
        own = result.to_json(i, name)
        expected = [entry for entry in entries if entry["image_id"] == i]
        assert len(own) == len(expected) > 0
        np.testing.assert_allclose(
            [e["score"] for e in own], [e["score"] for e in expected], atol=1e-4
        )
        np.testing.assert_allclose(
            [e["bbox"] for e in own], [e["bbox"] for e in expected], atol=0.1
        )
        ages = [[e["attributes"]["age"]["value"] for e in found] for found in (own, expected)]
        np.testing.assert_allclose(ages[0], ages[1], atol=0.1)
        overlay = cv2.imread(str(tmp_path / "out/overlays" / f"{name}.png"))[..., ::-1]
        assert np.abs(result.draw().astype(int) - overlay).mean() < 1


@pytest.mark.slow
def test_a_model_of_other_classes_and_attributes_keeps_what_means_the_same(trained, capsys):
    config = load_config_file(CONFIG)
    override(config, (*ARGUMENTS, f"--config.init.checkpoint={trained.folder}"))
    override(config, ["--config.attributes.gender.classes=('a','b','c')"])
    override(config, ["--config.attributes.age.range=(0,50)", "--config.attributes.head.weight=9"])
    task = Task.from_config(config, [Category(1, "cat"), Category(2, "dog")])
    started = experiment.initial_variables(task, seed=0)
    table = capsys.readouterr().out
    leaves = jax.tree_util.tree_leaves_with_path(started)
    ours = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
    theirs = variables(trained.folder, "best")
    same = {name for name in ours if np.array_equal(ours[name], theirs[name])}
    fresh = ("class_logits", "box_deltas", "mask_logits", "gender_output", "age_output")
    for name in ours:
        # Biases start at zero, and two steps of the heads alone may have left them there.
        if any(word in name for word in fresh):
            assert name not in same or not ours[name].any(), name
        else:
            assert name in same, name
    for word in ("class_logits", "box_deltas", "mask_head", "gender_output", "age_output"):
        assert any(word in row and "fresh: " in row for row in table.splitlines()), table
    assert "copied" in next(row for row in table.splitlines() if "backbone" in row)
    assert not any("head_output" in row and "fresh" in row for row in table.splitlines())


def test_what_can_make_an_output_layer_mean_something_else():
    config = load_config_file(CONFIG)
    heads = (Category(1, "head"),)
    task = Task.from_config(config, heads)
    stored = json.loads(json.dumps(task.metadata))
    assert changed_outputs(task, stored) == []
    other = Task.from_config(config, (Category(1, "face"),))
    assert changed_outputs(other, stored) == [
        "/(class_logits|box_deltas)/",
        "/mask_logits",
    ]
    override(config, ["--config.attributes.age.range=(0,50)", "--config.attributes.head.weight=2"])
    task = Task.from_config(config, heads)
    assert changed_outputs(task, stored) == ["/(visible_)?age_output/"]


@pytest.mark.slow
def test_a_learning_rate_is_found_before_training(tmp_path):
    config = str(scripts.ROOT / "configs/mtl_synthetic.py:tiny")
    done = scripts.call(
        "train", "--config", config, "--find", "learning_rate", "--workdir", tmp_path
    )
    assert done.code == 0
    *_, last = done.out.splitlines()
    rate = float(last.removeprefix("--config.optimizer.learning_rate="))
    assert 1e-6 <= rate <= 1
    assert list(tmp_path.iterdir()) == []
