"""The training loop: resuming to the bit after SIGKILL, NaN, and the number of compilations."""

import itertools
import json
import logging
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from mistakes import check_names, refused
from training.toy import check_non_finite, file_names, init, make_batches, make_model

from mtl_jax.config.options.training import LoopOptions, OptimizerOptions, Stage
from mtl_jax.errors import UserError
from mtl_jax.io import stop_signals
from mtl_jax.training.checkpoint import Checkpointer
from mtl_jax.training.loop import fit
from mtl_jax.training.metric_writer import MetricWriter
from mtl_jax.training.optimizer import make_optimizer
from mtl_jax.training.sharding import make_mesh
from mtl_jax.training.stages import trainable
from mtl_jax.training.state import start_stage
from mtl_jax.training.step_logger import NonFiniteLossError

HERE = Path(__file__).parent
# Options for fast compilation.
FAST = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
OPTIMIZER = OptimizerOptions(learning_rate=0.05, schedule="constant", warmup_steps=0)


def _process(run, *arguments):
    paths = os.pathsep.join([str(HERE.parents[1]), str(HERE.parent)])
    return subprocess.run(
        [sys.executable, HERE / "toy_run.py", run, *map(str, arguments)],
        env={**os.environ, "XLA_FLAGS": FAST, "JAX_PLATFORMS": "cpu", "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )


def _lines(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line.pop("train/images_per_second", None)
    return lines


@pytest.mark.slow
def test_a_killed_and_resumed_run_ends_with_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "xla"))
    whole = _process(tmp_path / "whole", 1)
    assert whole.returncode == 0, whole.stderr
    # Steps 4, 5, 6 (the end of the first stage), 8, 10, 12 and 15 are saved. The kills are just
    # after the start of the second stage, and within it.
    saved = {7: [6], 11: [10]}
    for kill_at, steps in saved.items():
        killed = _process(tmp_path / "killed", 1, kill_at, signal.SIGKILL)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert Checkpointer(tmp_path / "killed/checkpoints").steps()[-1:] == steps
        assert _lines(tmp_path / "killed")[-1]["step"] >= kill_at - 1
    ended = _process(tmp_path / "killed", 1)
    assert ended.returncode == 0, ended.stderr
    check_equal(tmp_path / "killed", tmp_path / "whole")
    assert [line["step"] for line in _lines(tmp_path / "whole") if "val/loss" in line] == [
        5,
        10,
        15,
    ]


def check_equal(run, whole):
    """Assert that two runs ended with the same bits and logged the same values."""
    expected, actual = (np.load(each / "final.npz") for each in (whole, run))
    assert set(actual) == set(expected)
    for name in expected:
        assert actual[name].tobytes() == expected[name].tobytes(), name
    assert _lines(run) == _lines(whole)
    assert Checkpointer(run / "checkpoints").best() == Checkpointer(whole / "checkpoints").best()


@pytest.mark.slow
def test_a_run_that_is_stopped_by_signals_saves_its_steps(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "xla"))
    run = tmp_path / "stopped"
    # The signals are sent between the save of step 6 and that of 8, and between 10 and 12.
    for at, number in ((6, signal.SIGTERM), (10, signal.SIGINT)):
        stopped = _process(run, 5, at, number)
        # The first step of a process is lost, nothing is unsaved: both signals come before it.
        assert stopped.returncode == 128 + number, stopped.stderr
    ended = _process(run, 5)
    assert ended.returncode == 0, ended.stderr
    whole = _process(tmp_path / "whole", 5)
    assert whole.returncode == 0, whole.stderr
    check_equal(run, tmp_path / "whole")


def _stop_at(step, monkeypatch):
    """Return batches during which a signal is received, in the step after `step`."""

    def batches(start):
        for number, batch in enumerate(make_batches()(start), start):
            if number == step:
                monkeypatch.setattr(stop_signals, "_received", signal.SIGTERM)
            yield batch

    return batches


@pytest.mark.parametrize(("at", "saved"), [(1, [2]), (4, [4, 5]), (7, [4, 8])])
def test_a_signal_saves_the_step_in_hand(tmp_path, monkeypatch, at, saved):
    options = dict(log_every=3, checkpoint_every=4, best_metric="a")
    stages, seen = (Stage(steps=10),), []

    def validate(variables, step):
        seen.append(step)
        return {"a": 1.0}

    def train(run, batches=None):
        return _fit(run, stages, batches=batches, validate=validate, **options)

    whole = train(tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as exit_code:
        train(tmp_path / "run", _stop_at(at, patch))
    assert exit_code.value.code == 128 + signal.SIGTERM
    assert Checkpointer(tmp_path / "run/checkpoints").steps() == saved
    state = train(tmp_path / "run")
    jax.tree.map(np.testing.assert_array_equal, state, whole)
    assert _lines(tmp_path / "run") == _lines(tmp_path / "whole")
    assert seen == [10, 10]


@pytest.mark.parametrize(
    "error", [UserError("an image is missing"), OverflowError(), SystemExit(1)]
)
def test_a_validation_that_fails_loses_no_step(tmp_path, error):
    failing = [error]

    def validate(variables, step):
        if step == 4 and failing:
            raise failing.pop()
        kernel = variables["params"]["fpn"]["kernel"]
        return {"box/AP": float(np.abs(kernel).sum())}

    def train(run, steps):
        options = dict(validate=validate, best_metric="box/AP", checkpoint_every=0, eval_every=2)
        return _fit(run, (Stage(steps=steps),), **options)

    for steps in (6, 4):  # validation after four steps is within the run, or at its end
        failing = [error]
        run, whole = tmp_path / f"run{steps}", tmp_path / f"whole{steps}"
        with pytest.raises(type(error)):
            train(run, steps)
        assert Checkpointer(run / "checkpoints").latest() == 4
        state = train(run, steps)
        jax.tree.map(np.testing.assert_array_equal, state, train(whole, steps))
        assert _lines(run) == _lines(whole)
        best, expected = (Checkpointer(each / "checkpoints").best() for each in (run, whole))
        assert best == expected


def test_a_validation_whose_metrics_were_not_stored_is_repeated(tmp_path, monkeypatch):
    def train(run):
        options = dict(validate=lambda v, s: {"a": float(s)}, best_metric="a", eval_every=2)
        return _fit(run, (Stage(steps=4),), **options)

    def kill(*args):
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(Checkpointer, "add_metrics", kill)  # after metrics.jsonl was written
        with pytest.raises(SystemExit):
            train(tmp_path / "run")
    train(tmp_path / "run")
    train(tmp_path / "whole")
    assert _lines(tmp_path / "run") == _lines(tmp_path / "whole")
    assert Checkpointer(tmp_path / "run/checkpoints").metrics(2) == {"a": 2.0}


def test_an_image_that_cannot_be_read_loses_no_step(tmp_path):
    def batches(start):
        yield from itertools.islice(make_batches()(start), 5)
        raise UserError("image7.png: cannot be read")

    with refused("image7.png"):
        _fit(tmp_path / "run", (Stage(steps=9),), batches=batches, checkpoint_every=0, log_every=3)
    assert Checkpointer(tmp_path / "run/checkpoints").latest() == 5
    for run in ("run", "whole"):
        _fit(tmp_path / run, (Stage(steps=9),), checkpoint_every=0, log_every=3)
    assert _lines(tmp_path / "run") == _lines(tmp_path / "whole")


def _fit(run, stages, model=None, batches=None, validate=None, best_metric="", **options):
    checkpointer = Checkpointer(run / "checkpoints", {}, best_metric)
    total = sum(stage.steps for stage in stages)
    return fit(
        model or make_model(),
        init(0),
        stages,
        OPTIMIZER,
        batches or make_batches(),
        validate,
        checkpointer,
        MetricWriter(run, total),
        make_mesh(),
        LoopOptions(**options),
        file_names,
    )


def _spoiled(at):
    def batches(start):
        for step, batch in enumerate(make_batches()(start), start):
            if step == at:
                boxes = batch.gt.boxes.copy()
                boxes[1, 0, 2] = np.nan
                batch = batch._replace(
                    gt=batch.gt._replace(boxes=boxes), valid=np.array([True, True, True, False])
                )
            yield batch

    return batches


@pytest.mark.parametrize("checkpoint_every", [1, 4])
def test_nan_stops_the_run_and_is_never_saved(tmp_path, checkpoint_every):
    bad = next(make_batches()(6)).index[:3]
    with pytest.raises(NonFiniteLossError) as error:
        _fit(
            tmp_path,
            (Stage(steps=9),),
            batches=_spoiled(6),
            log_every=3,
            checkpoint_every=checkpoint_every,
        )
    check_non_finite(error.value, 7, {"box": "nan", "loss": "nan"}, file_names(bad))
    assert re.search(r"\bclass\b\D* \d+\.\d+", str(error.value))
    assert len(re.findall(r"\bnan\b", str(error.value))) == 3  # the third is the gradient's norm
    checkpointer = Checkpointer(tmp_path / "checkpoints")
    assert checkpointer.latest() == {1: 6, 4: 4}[checkpoint_every]
    for leaf in jax.tree.leaves(checkpointer.restore_variables("latest")):
        assert np.isfinite(leaf).all()


def test_nan_in_the_last_step_is_noticed(tmp_path):
    bad = next(make_batches()(2)).index[:3]
    with refused(error=NonFiniteLossError) as caught:
        _fit(tmp_path, (Stage(steps=3),), batches=_spoiled(2), checkpoint_every=0)
    check_non_finite(caught.value, 3, {"box": "nan"}, file_names(bad))
    assert Checkpointer(tmp_path / "checkpoints", {}).latest() is None


def test_one_compilation_per_stage(tmp_path, caplog):
    traces = []
    model = make_model(lambda: traces.append(1))
    stages = (Stage("heads", 3), Stage("all", 4))

    def compiles():
        messages = [r.getMessage() for r in caplog.records if "train_step" in r.getMessage()]
        return sum(message.startswith("Compiling") for message in messages)

    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        state = _fit(tmp_path, stages, model, eval_every=2, validate=lambda v, s: {"a": 1.0})
    assert int(state.step) == 7
    assert len(traces) == compiles() == 2
    caplog.clear()
    more = (Stage("heads", 3), Stage("all", 9))
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        state = _fit(tmp_path, more, model)
    assert int(state.step) == 12
    assert len(traces) == 3
    assert compiles() == 1
    assert int(_fit(tmp_path, more, model).step) == 12  # nothing left to do
    assert len(traces) == 3


def test_stages_train_their_layers_at_their_rates_and_the_best_is_kept(tmp_path):
    stages = (Stage("heads", 3, 0.01), Stage("all", 3))
    seen, scores = {}, {1: 0.1, 2: 0.3, 3: 0.2, 4: 0.9, 5: 0.8, 6: 0.5}

    def validate(variables, step):
        seen[step] = jax.device_get(variables)
        return {"box/AP": scores[step]}

    _fit(tmp_path, stages, validate=validate, best_metric="box/AP", log_every=1, eval_every=1)
    stem = [seen[step]["params"]["backbone"]["stem"]["conv1"]["kernel"] for step in range(1, 7)]
    start = init(0)["params"]["backbone"]["stem"]["conv1"]["kernel"]
    assert all(np.array_equal(kernel, start) for kernel in stem[:3])
    assert not np.array_equal(stem[3], start)
    lines = _lines(tmp_path)
    rates = [line["train/learning_rate"] for line in lines if "train/loss" in line]
    np.testing.assert_allclose(rates, [0.01] * 3 + [0.05] * 3, rtol=1e-6)
    assert {line["step"]: line["box/AP"] for line in lines if "box/AP" in line} == scores
    checkpointer = Checkpointer(tmp_path / "checkpoints")
    assert checkpointer.steps() == [4, 5, 6]
    variables = checkpointer.restore_variables("best")
    jax.tree.map(np.testing.assert_array_equal, variables, seen[4])


def test_stages_that_moved_are_refused(tmp_path):
    mask = trainable(init(0)["params"], "all")
    state = start_stage(init(0), make_optimizer(OPTIMIZER, lambda step: 0.0), mask, make_mesh(), 4)
    Checkpointer(tmp_path / "checkpoints", {}).save(state, 4, stage=1)
    with refused(tmp_path / "checkpoints", 4, 2, 1):
        _fit(tmp_path, (Stage("heads", 6), Stage("all", 2)))


def test_accumulate_must_divide_the_padded_batch():
    LoopOptions(batch_size=12, accumulate=3).check_devices(4)
    LoopOptions(batch_size=12, accumulate=2).check_devices(8)  # the batch is padded to 16
    fields = ("config.train.accumulate", "config.train.batch_size")
    with refused(*fields, 3, 12, 8, 16, 24):
        LoopOptions(batch_size=12, accumulate=3).check_devices(8)


def test_training_lowers_the_loss(tmp_path):
    _fit(tmp_path, (Stage(steps=150),), log_every=15, checkpoint_every=0)
    losses = [line["train/loss"] for line in _lines(tmp_path)]
    assert losses[-1] < 0.7 * losses[0]  # measured: 0.5


def test_the_average_is_validated_and_saved(tmp_path):
    seen = []

    def validate(variables, step):
        seen.append(jax.device_get(variables["params"]))
        return {"val/loss": 1.0}

    state = _fit(tmp_path, (Stage("all", 4),), validate=validate, ema=0.9, eval_every=4)
    kept = Checkpointer(tmp_path / "checkpoints").restore_variables("latest")["params"]
    for tree in (seen[-1], kept):
        for one, average in zip(jax.tree.leaves(tree), jax.tree.leaves(state.average), strict=True):
            np.testing.assert_array_equal(one, average)
    differs = [
        np.any(np.asarray(a) != np.asarray(b))
        for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(kept), strict=True)
    ]
    assert all(differs)


def test_an_average_continues_through_the_stages(tmp_path):
    state = _fit(tmp_path, (Stage("heads", 2), Stage("all", 2)), ema=0.999)
    start = init(0)["params"]["fpn"]["kernel"]
    average, last = (np.asarray(x["fpn"]["kernel"]) for x in (state.average, state.params))
    # After four steps it is between start and last, and closer to the last.
    assert 0 < np.linalg.norm(average - last) < np.linalg.norm(average - start)


def test_training_stops_if_validation_no_longer_improves(tmp_path, capsys):
    values = iter([1.0, 3.0, 2.0, 3.0, 1.0, 1.0])

    def validate(variables, step):
        return {"val/x": next(values)}

    options = dict(validate=validate, best_metric="val/x", eval_every=2, patience=2)
    state = _fit(tmp_path, (Stage("all", 20),), **options)
    # The later of equal values is the best: that of step 8.
    assert int(state.step) == 12
    named = ("val/x", 12, 2, 8)  # the last step, the patience, and the best step
    check_names(capsys.readouterr().err.splitlines()[-1], *named)
    again = _fit(tmp_path, (Stage("all", 20),), **options)
    assert int(again.step) == 12
    check_names(capsys.readouterr().err.splitlines()[-1], *named)


def test_a_metric_without_data_says_what_is_missing(tmp_path, capsys):
    options = dict(validate=lambda variables, step: {"val/box/AP": np.nan}, eval_every=2)
    _fit(tmp_path, (Stage("all", 2),), best_metric="val/box/AP", **options)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "val/box/AP" in line]
    check_names(line, 2, "n/a", "objects")
    assert "nan" not in line


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (dict(ema=1.0), ("train.ema", 1.0)),
        (dict(patience=2, eval_every=0), ("train.patience", "eval_every")),
        (dict(batch_size=4, accumulate=3), ("train.accumulate", 3, 4)),
    ],
)
def test_invalid_options_are_refused(options, parts):
    with refused(*parts, error=ValueError):
        LoopOptions(**options)
