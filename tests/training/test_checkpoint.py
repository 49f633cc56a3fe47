"""Checkpoints: which are kept, what they contain, and what remains after a kill."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mistakes import check_names, refused
from training.toy import init

from mtl_jax.config.options.training import OptimizerOptions
from mtl_jax.training.checkpoint import Checkpointer
from mtl_jax.training.optimizer import make_optimizer
from mtl_jax.training.sharding import make_mesh
from mtl_jax.training.stages import trainable
from mtl_jax.training.state import start_stage

ROOT = Path(__file__).parents[2]
METADATA = {"config": {"sizes": (1, 2)}, "classes": ("face",), "attributes": {}}


@pytest.fixture
def state():
    mask = trainable(init(0)["params"], "heads")
    optimizer = make_optimizer(OptimizerOptions(name="adamw"), lambda step: 0.1)
    return start_stage(init(0), optimizer, mask, make_mesh(), 7)


def _at(state, step):
    """Return a state that differs from those of other steps."""
    bias = state.params["fpn"]["bias"] + step
    params = {**state.params, "fpn": {**state.params["fpn"], "bias": bias}}
    return state._replace(step=jnp.int32(step), params=params)


def test_a_state_is_restored_to_the_bit(tmp_path, state):
    checkpointer = Checkpointer(tmp_path / "checkpoints", METADATA)
    checkpointer.save(state, 7, stage=1)
    for reader in (checkpointer, Checkpointer(tmp_path / "checkpoints")):
        back = reader.restore("latest", jax.tree.map(jnp.zeros_like, state)._replace(finite=True))
        jax.tree.map(np.testing.assert_array_equal, back, state._replace(finite=True))
        assert jax.tree.structure(back) == jax.tree.structure(state)
        variables = reader.restore_variables("latest")
        jax.tree.map(np.testing.assert_array_equal, variables, state.variables)
        assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(variables))
        stored = {"config": {"sizes": [1, 2]}, "classes": ["face"], "attributes": {}}
        assert reader.metadata() == stored
        assert reader.stage() == 1


def test_a_full_disk_is_refused_and_no_checkpoint_is_lost(tmp_path, state, monkeypatch):
    checkpointer = Checkpointer(tmp_path, METADATA)
    checkpointer.save(state, 5)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    left = shutil.disk_usage(tmp_path)._replace(free=size - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: left)
    with refused(tmp_path) as caught:
        checkpointer.save(state, 10)
    check_names(str(caught.value).replace(str(tmp_path), ""), 10, 5, "MB")
    assert checkpointer.steps() == [5]
    left = left._replace(free=size)
    checkpointer.save(state, 10)
    assert checkpointer.steps() == [10]


@pytest.mark.parametrize(("mode", "best"), [("max", 20), ("min", 40)])
def test_latest_and_best_are_kept(tmp_path, state, mode, best):
    checkpointer = Checkpointer(tmp_path, METADATA, "box/AP", mode)
    scores = {10: 0.3, 20: 0.8, 30: None, 40: 0.1, 50: float("nan"), 60: 0.4, 70: None}
    for step, score in scores.items():
        metrics = None if score is None else {"box/AP": score, "other": 1}
        checkpointer.save(_at(state, step), step, metrics)
        assert checkpointer.latest() == step
        assert len(checkpointer.steps()) <= 2
    reader = Checkpointer(tmp_path)
    for each in (checkpointer, reader):
        assert each.steps() == [best, 70]
        assert each.best() == best
        assert each.metrics("best") == {"box/AP": scores[best], "other": 1}
        for step, number in (("best", best), ("latest", 70), (best, best), (str(best), best)):
            variables = each.restore_variables(step)
            assert variables["params"]["fpn"]["bias"][0] == number
            assert int(each.restore(step, state).step) == number
    assert {path.name for path in tmp_path.iterdir()} == {str(best), "70"}


def test_the_later_of_equals_is_best(tmp_path, state):
    checkpointer = Checkpointer(tmp_path, METADATA, "a")
    for step in (1, 2, 3):
        checkpointer.save(state, step, {"a": 0.5 if step < 3 else 0.1})
    assert checkpointer.steps() == [2, 3]
    assert checkpointer.best() == 2


def test_without_metrics_the_latest_is_best(tmp_path, state):
    checkpointer = Checkpointer(tmp_path, METADATA, "a")
    checkpointer.save(state, 0)
    assert checkpointer.find("best") == 0
    checkpointer.save(state, 4)
    assert checkpointer.steps() == [4]
    assert checkpointer.find("best") == 4


def test_mistakes_are_named(tmp_path, state):
    with refused(tmp_path / "absent", error=FileNotFoundError):
        Checkpointer(tmp_path / "absent").find("best")
    assert not (tmp_path / "absent").exists()
    checkpointer = Checkpointer(tmp_path, METADATA, "box/AP")
    with refused("box/AP", "mask/AP", "val/loss"):
        checkpointer.save(state, 1, {"val/loss": 1.0, "mask/AP": 0.5})
    with refused(40, error=ValueError):
        checkpointer.save(state._replace(finite=jnp.bool_(False)), 40)
    checkpointer.save(state, 40)
    for step in ("bset", 2, "-1"):
        with refused(tmp_path, step, "latest", "best", 40, error=FileNotFoundError):
            checkpointer.find(step)
    with refused("metadata", error=ValueError):
        Checkpointer(tmp_path).save(state, 3)
    with refused("best_mode", "maximum", "max", "min", error=ValueError):
        Checkpointer(tmp_path, METADATA, "a", "maximum")


SAVE_FOR_EVER = """
import sys
import numpy as np
from mtl_jax.training.checkpoint import Checkpointer
from mtl_jax.training.state import TrainState
import jax.numpy as jnp
from mtl_jax.errors import UserError

checkpointer = Checkpointer(sys.argv[1], {})
for step in range(1, 10_000):
    params = {str(i): jnp.full((1_000_000,), step) for i in range(10)}
    checkpointer.save(TrainState(jnp.int32(step), params, {}, (), jnp.bool_(True)), step)
"""


@pytest.mark.parametrize("moment", ["tmp", "deleted"])
def test_a_save_or_deletion_interrupted_by_a_kill_is_no_checkpoint(tmp_path, state, moment):
    process = subprocess.Popen(
        [sys.executable, "-c", SAVE_FOR_EVER, tmp_path],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)},
    )
    while not (tmp_path / "2").exists() and process.poll() is None:
        time.sleep(0.001)
    while not any(moment in p.name for p in tmp_path.iterdir()) and process.poll() is None:
        time.sleep(0.0001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    checkpointer = Checkpointer(tmp_path, {})
    assert checkpointer.steps()
    for step in checkpointer.steps():
        values = checkpointer.restore_variables(step)["params"].values()
        assert all((value == step).all() for value in values)
        assert len(values) == 10
    checkpointer.save(state, 20_000)
    assert [path.name for path in tmp_path.iterdir()] == ["20000"]  # the remains are gone
