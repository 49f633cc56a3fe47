"""Checkpoints: which are kept, what they contain, and what remains after a kill."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from mistakes import check_names, refused
from training.toy import init

from mtl_jax.config.options.training import OptimizerOptions
from mtl_jax.io.digests import write_digests
from mtl_jax.training import sharding
from mtl_jax.training.checkpoint import Checkpointer
from mtl_jax.training.optimizer import make_optimizer
from mtl_jax.training.sharding import make_mesh
from mtl_jax.training.stages import trainable
from mtl_jax.training.state import TrainState, start_stage

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
    left = shutil.disk_usage(tmp_path)._replace(free=size)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: left)
    with refused(tmp_path) as caught:
        checkpointer.save(state, 10)
    check_names(str(caught.value).replace(str(tmp_path), ""), 10, 5, "MB")
    assert checkpointer.steps() == [5]
    left = left._replace(free=size + 2**20)
    checkpointer.save(state, 10)
    assert checkpointer.steps() == [5, 10]


def test_the_room_asked_for_is_at_least_what_is_written(tmp_path, state, monkeypatch):
    asked = []

    @contextmanager
    def ask(folder, needed, *rest):
        asked.append(needed)
        yield

    monkeypatch.setattr("mtl_jax.training.checkpoint.require_room", ask)
    rng = np.random.default_rng(0)
    for step, (count, size) in enumerate([(1, 1), (300, 3), (3, 300_000)], 1):
        params = {f"layer_{i}": rng.normal(size=size).astype(np.float32) for i in range(count)}
        large = TrainState(jnp.int32(step), params, {}, (), jnp.bool_(True), params)
        Checkpointer(tmp_path, METADATA).save(large, step)
        files = [path.stat() for path in (tmp_path / str(step)).rglob("*")]
        assert sum(max(file.st_size, 512 * file.st_blocks) for file in files) < asked[-1]


def test_a_disk_that_is_full_nevertheless_is_one_line(tmp_path, state, monkeypatch):
    checkpointer = Checkpointer(tmp_path, METADATA)
    checkpointer.save(state, 5)

    def fail(self, folder, args):
        (folder.parent / "part").write_text("part")
        raise ValueError(f"RESOURCE_EXHAUSTED: {os.strerror(errno.ENOSPC)}")  # as TensorStore

    with monkeypatch.context() as patch:
        patch.setattr(ocp.Checkpointer, "save", fail)
        with refused(tmp_path, 10, 5):
            checkpointer.save(state, 10)
    assert [path.name for path in tmp_path.iterdir()] == ["5"]
    checkpointer.save(state, 10)
    assert checkpointer.steps() == [5, 10]


def test_all_hosts_refuse_a_save_for_which_one_has_no_room(tmp_path, state, monkeypatch):
    checkpointer = Checkpointer(tmp_path, METADATA)
    checkpointer.save(state, 5)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    said = []

    def gather(text):
        said.append(json.loads(text)[0])
        return [text, json.dumps(["no room", {}])]

    monkeypatch.setattr(sharding, "gather", gather)
    with refused("host 1", "no room"):
        checkpointer.save(state, 10)
    left = shutil.disk_usage(tmp_path)._replace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: left)
    with refused(tmp_path, 10, 5, "MB") as caught:
        checkpointer.save(state, 10)
    assert said == ["", str(caught.value)]
    assert checkpointer.steps() == [5]


def test_arrays_that_declare_more_than_they_have_are_one_line(tmp_path, state, monkeypatch):
    zeros = state._replace(params={"a": jnp.zeros((1000, 1000))})
    Checkpointer(tmp_path, METADATA).save(zeros, 7)
    assert Checkpointer(tmp_path).read().step == 7
    monkeypatch.setattr("mtl_jax.training.stored.arrays.UNCOMPRESSED", 0)
    with refused(tmp_path / "7"):
        Checkpointer(tmp_path).read()


def test_a_state_of_other_shapes_is_one_line(tmp_path, state):
    Checkpointer(tmp_path, METADATA).save(state, 7)
    params = jax.tree.map(lambda x: jnp.zeros((2, *x.shape), x.dtype), state.params)
    with refused(tmp_path / "7"):
        Checkpointer(tmp_path).restore(7, state._replace(params=params))


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(tmp_path, state, caplog):
    whole = Checkpointer(tmp_path / "whole", METADATA, "a")
    for step in (3, 6):
        whole.save(_at(state, step), step)
        whole.add_metrics(step, {"a": step})
    rng = np.random.default_rng(0)
    files = sorted(path for path in (tmp_path / "whole/6").rglob("*") if path.is_file())
    for i, path in enumerate(files * 3):
        run = Path(shutil.copytree(tmp_path / "whole", tmp_path / f"run{i}"))
        damage(run / path.relative_to(tmp_path / "whole"), i // len(files), rng)
        caplog.clear()
        is_metric = path.name == "metrics.json"
        if path.name == "digests.json" and not (run / "6/digests.json").exists():
            continue  # it is now a checkpoint of an earlier version
        checkpointer = Checkpointer(run, METADATA, "a")
        assert checkpointer.latest() == (6 if is_metric else 3), path
        if is_metric:
            assert checkpointer.best() == 3
            continue
        (line,) = [record.getMessage() for record in caplog.records]
        check_names(line, run / "6", 3)
        assert "\n" not in line
        with refused(run / "6"):
            Checkpointer(run).restore(6, state)
        if i % 10 == 0:
            assert int(checkpointer.restore("latest", state).step) == 3
            found, _, variables = Checkpointer(run).read("best")
            assert variables["params"]["fpn"]["bias"][0] == found
            checkpointer.save(_at(state, 6), 6)
            assert Checkpointer(run).latest() == 6
        shutil.rmtree(run)


def damage(path, kind, rng):
    """Flip a bit of a file, truncate it or delete it."""
    content = bytearray(path.read_bytes())
    at = int(rng.integers(len(content)))
    if kind == 0:
        content[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)
    elif kind == 1:
        path.write_bytes(content[:at])
    else:
        path.unlink()


def test_a_damaged_checkpoint_without_digests_is_one_line(tmp_path, state):
    checkpointer = Checkpointer(tmp_path / "whole", METADATA)
    checkpointer.save(_at(state, 6), 6)
    (tmp_path / "whole/6/digests.json").unlink()
    assert int(Checkpointer(tmp_path / "whole").restore("latest", state).step) == 6
    for name in ("variables/_METADATA", "variables/manifest.ocdbt", "record/metadata"):
        run = Path(shutil.copytree(tmp_path / "whole", tmp_path / "run"))
        (run / "6" / name).write_bytes(b"{")
        with refused(run / "6"):
            Checkpointer(run).read()
        shutil.rmtree(run)


@pytest.mark.parametrize("text", ["[1]", "{", "{}", '{"metadata": [], "stage": 0}'])
def test_a_wrong_record_with_a_digest_is_one_line(tmp_path, state, text):
    Checkpointer(tmp_path, METADATA).save(state, 7)
    (tmp_path / "7/record/metadata").write_text(text)
    write_digests(tmp_path / "7")
    for step in ("best", "latest", 7):
        with refused(tmp_path / "7"):
            Checkpointer(tmp_path).read(step)


def test_all_checkpoints_damaged_is_one_line(tmp_path, state):
    Checkpointer(tmp_path, METADATA).save(state, 6)
    damage(tmp_path / "6/optimizer/_METADATA", 2, np.random.default_rng(0))
    with refused(tmp_path / "6"):
        Checkpointer(tmp_path, METADATA).latest()
    assert Checkpointer(tmp_path).read("latest").step == 6  # its weights are not damaged


def test_metrics_are_added_after_the_save(tmp_path, state):
    checkpointer = Checkpointer(tmp_path, METADATA, "a")
    checkpointer.save(state, 2, awaits_metrics=True, logged=[{"loss": 0.1}])
    for each in (checkpointer, Checkpointer(tmp_path)):
        assert each.awaits_metrics(2)
        assert each.logged(2) == [{"loss": 0.1}]
    checkpointer.add_metrics(2, {"a": 0.3})
    checkpointer.save(state, 4)
    for each in (checkpointer, Checkpointer(tmp_path)):
        assert [each.awaits_metrics(step) for step in (2, 4)] == [False, False]
        assert each.metrics(2) == {"a": 0.3}
        assert each.best() == 2


@pytest.mark.parametrize(("mode", "best"), [("max", 20), ("min", 40)])
def test_latest_and_best_are_kept(tmp_path, state, mode, best):
    checkpointer = Checkpointer(tmp_path, METADATA, "box/AP", mode)
    scores = {10: 0.3, 20: 0.8, 30: None, 40: 0.1, 50: float("nan"), 60: 0.4, 70: None}
    for step, score in scores.items():
        checkpointer.save(_at(state, step), step)
        if score is not None:
            checkpointer.add_metrics(step, {"box/AP": score, "other": 1})
        assert checkpointer.latest() == step
        assert len(checkpointer.steps()) <= 3
    reader = Checkpointer(tmp_path)
    for each in (checkpointer, reader):
        assert each.steps() == [best, 60, 70]
        assert each.best() == best
        assert each.metrics("best") == {"box/AP": scores[best], "other": 1}
        for step, number in (("best", best), ("latest", 70), (best, best), (str(best), best)):
            variables = each.restore_variables(step)
            assert variables["params"]["fpn"]["bias"][0] == number
            assert int(each.restore(step, state).step) == number
    assert {path.name for path in tmp_path.iterdir()} == {str(best), "60", "70"}


def test_the_later_of_equals_is_best(tmp_path, state):
    checkpointer = Checkpointer(tmp_path, METADATA, "a")
    for step in (1, 2, 3, 4):
        checkpointer.save(state, step)
        checkpointer.add_metrics(step, {"a": 0.5 if step < 3 else 0.1})
    assert checkpointer.steps() == [2, 3, 4]
    assert checkpointer.best() == 2


def test_without_metrics_the_latest_is_best(tmp_path, state):
    checkpointer = Checkpointer(tmp_path, METADATA, "a")
    checkpointer.save(state, 0)
    assert checkpointer.find("best") == 0
    checkpointer.save(state, 4)
    checkpointer.save(state, 5)
    assert checkpointer.steps() == [4, 5]
    assert checkpointer.find("best") == 5


def test_mistakes_are_named(tmp_path, state):
    with refused(tmp_path / "absent", error=FileNotFoundError):
        Checkpointer(tmp_path / "absent").find("best")
    assert not (tmp_path / "absent").exists()
    checkpointer = Checkpointer(tmp_path, METADATA, "box/AP")
    checkpointer.save(state, 1)
    with refused("box/AP", "mask/AP", "val/loss"):
        checkpointer.add_metrics(1, {"val/loss": 1.0, "mask/AP": 0.5})
    with refused(40, error=ValueError):
        checkpointer.save(state._replace(finite=jnp.bool_(False)), 40)
    checkpointer.save(state, 40)
    for step in ("bset", 2, "-1"):
        with refused(tmp_path, step, "latest", "best", 1, 40, error=FileNotFoundError):
            checkpointer.find(step)
        with refused(tmp_path, step, "latest", "best", 1, 40, error=FileNotFoundError):
            Checkpointer(tmp_path).read(step)
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

checkpointer = Checkpointer(sys.argv[1], {}, "a")
for step in range(1, 10_000):
    params = {str(i): jnp.full((int(sys.argv[2]),), step) for i in range(10)}
    checkpointer.save(TrainState(jnp.int32(step), params, {}, (), jnp.bool_(True)), step)
    checkpointer.add_metrics(step, {"a": step})
"""


def save_for_ever(folder, size):
    """Start a process that saves and validates growing steps, each better than the one before."""
    return subprocess.Popen(
        [sys.executable, "-c", SAVE_FOR_EVER, folder, str(size)],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)},
    )


def test_a_run_is_read_while_it_is_saved(tmp_path):
    process = save_for_ever(tmp_path, 1000)
    try:
        while not (tmp_path / "2").exists() and process.poll() is None:
            time.sleep(0.01)
        read = {"best": [], "latest": []}
        reads = 0
        while reads < 40 or min(len(set(steps)) for steps in read.values()) <= 3:
            assert process.poll() is None  # it saves 1000 steps
            step = ("best", "latest")[reads % 2]
            reads += 1
            found, metadata, variables = Checkpointer(tmp_path).read(step)
            assert metadata == {}
            assert all((value == found).all() for value in variables["params"].values())
            read[step].append(found)
    finally:
        process.kill()
        process.wait()
    for steps in read.values():
        assert steps == sorted(steps)


@pytest.mark.parametrize("moment", ["tmp", "deleted"])
def test_a_save_or_deletion_interrupted_by_a_kill_is_no_checkpoint(tmp_path, state, moment):
    process = save_for_ever(tmp_path, 1_000_000)
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
    checkpointer.save(state, 20_001)
    # The remains are gone.
    assert {path.name for path in tmp_path.iterdir()} == {"20000", "20001"}
