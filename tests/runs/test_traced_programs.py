"""Traced programs: the same results as without them, and nothing but what was traced is used."""

import json
import os
from dataclasses import replace

import jax
import numpy as np
import pytest
import scripts
from scenes import draw_variables
from toy_kind.hour import Hour
from toy_kind.hour_head import HourHead

from mtl_jax.config.defaults import get_chips
from mtl_jax.config.overrides import override
from mtl_jax.config.resolve import load_experiment, resolve
from mtl_jax.data.records import Category
from mtl_jax.io import digests
from mtl_jax.models.attribute_heads.heads import HEADS
from mtl_jax.runs import traced_programs
from mtl_jax.runs.initial import variable_shapes
from mtl_jax.runs.setup import Setup
from mtl_jax.runs.traced_programs import TracedPrograms, open_programs
from mtl_jax.types import Inputs

TINY = str(scripts.ROOT / "configs/mtl_synthetic.py:tiny")


def build(*overrides):
    config = get_chips(side=32, channels=3)
    config.model.convs.features = (4, 8)
    config.model.head.update(features=(8,), dropout=0.0, pool="mean")
    override(config, [f"--config.{field}" for field in overrides])
    return Setup.build(resolve(config), [Category(1, "face")])


SETUP = build()


@pytest.fixture(scope="module")
def variables():
    return draw_variables(variable_shapes(SETUP))


@pytest.fixture
def cache(tmp_path):
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    yield tmp_path
    jax.config.update("jax_compilation_cache_dir", before)


def inputs(rows=1, side=32):
    images = np.random.default_rng(rows).integers(0, 256, (rows, side, side, 3), np.uint8)
    return Inputs(images, np.full((rows, 2), side, np.float32), np.ones(rows, bool))


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def predict(cache, variables, given=None, model=None):
    """Predict in a new start; return the detections and whether the network was traced."""
    traced = []

    def spy(*arguments):
        traced.append(True)
        return SETUP.model.predict(*arguments)

    programs = TracedPrograms(cache, model or SETUP.metadata)
    found = programs.keep(spy)(variables, given or inputs())
    return jax.device_get(found), bool(traced)


def same(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, jax.device_get(expected))
    return jax.tree.structure(found) == jax.tree.structure(expected)


def test_the_network_is_traced_once_with_the_same_results(tmp_path, variables):
    expected = jax.jit(SETUP.model.predict)(variables, inputs())
    for is_first in (True, False, False):
        found, traced = predict(tmp_path, variables)
        assert traced == is_first
        assert same(found, expected)
    assert len(files(tmp_path)) == 1
    other = jax.tree.map(lambda leaf: leaf * np.float32(1.5), variables)
    found, traced = predict(tmp_path, other)
    assert not traced  # weights are arguments
    assert same(found, jax.jit(SETUP.model.predict)(other, inputs()))


def test_each_batch_size_and_image_size_has_a_program(tmp_path, variables):
    given = [inputs(), inputs(rows=2), inputs(side=64)]
    assert [predict(tmp_path, variables, each)[1] for each in given] == [True] * 3
    assert len(files(tmp_path)) == 3
    assert [predict(tmp_path, variables, each)[1] for each in given] == [False] * 3


@pytest.mark.parametrize("damage", ["cut", "bit", "empty", "text", "digest of another"])
def test_a_damaged_file_is_made_anew(tmp_path, variables, damage):
    expected, _ = predict(tmp_path, variables)
    (file,) = files(tmp_path)
    whole = file.read_bytes()
    middle = len(whole) // 2
    file.write_bytes(
        {
            "cut": whole[:-100],
            "bit": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
            "empty": b"",
            "text": b"<html>" * 1000,
            "digest of another": bytes(32) + whole[32:],
        }[damage]
    )
    found, traced = predict(tmp_path, variables)
    assert traced
    assert same(found, expected)
    assert not predict(tmp_path, variables)[1]


def test_whatever_a_program_depends_on_makes_it_anew(tmp_path, variables, monkeypatch):
    assert predict(tmp_path, variables)[1]
    assert not predict(tmp_path, variables)[1]
    assert predict(tmp_path, variables, model={**SETUP.metadata, "views": "mirrored"})[1]
    half = jax.tree.map(lambda leaf: leaf.astype(np.float16), variables)
    assert predict(tmp_path, half)[1]
    with jax.default_matmul_precision("highest"):
        assert predict(tmp_path, variables)[1]
    with monkeypatch.context() as patch:
        patch.setattr(traced_programs, "source_digest", lambda: "an edited file")
        assert predict(tmp_path, variables)[1]
    with monkeypatch.context() as patch:
        patch.setattr(traced_programs.jax, "__version__", "0.0")
        assert predict(tmp_path, variables)[1]
    assert not predict(tmp_path, variables)[1]


def test_an_edit_of_a_python_file_changes_the_digest_of_the_source(tmp_path, monkeypatch):
    (tmp_path / "models").mkdir()
    for name in ("__init__.py", "models/network.py"):
        (tmp_path / name).write_text("a = 1\n")
    monkeypatch.setattr(digests, "__file__", str(tmp_path / "io/digests.py"))
    digest = digests.source_digest.__wrapped__
    before = digest()
    times = (tmp_path / "models/network.py").stat()
    (tmp_path / "models/network.py").write_text("a = 2\n")
    os.utime(tmp_path / "models/network.py", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert digest() != before
    (tmp_path / "models/network.py").write_text("a = 1\n")
    assert digest() == before
    (tmp_path / "models/network.py").rename(tmp_path / "models/other.py")
    assert digest() != before


def test_the_settings_of_a_run_select_its_programs(cache, variables):
    flip = ("eval.flip=True",)
    for overrides, is_new in (((), True), ((), False), (flip, True), (flip, False)):
        setup = build(*overrides)
        setup = replace(setup, experiment=setup.experiment.in_views())
        programs = open_programs(setup)
        assert programs is not None
        assert programs.is_empty(variables) == is_new
        programs.keep(setup.model.predict)(variables, inputs())
        assert not programs.is_empty(variables)
    assert {path.relative_to(cache).parts[0] for path in files(cache)} >= {"traced"}


@pytest.mark.parametrize("trust", [False, True])
def test_validation_in_training_and_a_loaded_run_share_programs(cache, variables, trust):
    for setup in (SETUP, Setup.build(load_experiment(TINY, ()), [Category(1, "head")])):
        validation = open_programs(setup)
        loaded = Setup.from_metadata(json.loads(json.dumps(setup.metadata)), trust=trust)
        prediction = open_programs(loaded)
        assert validation is not None
        assert prediction is not None
        validation.keep(lambda *_: SETUP.model.predict(variables, inputs()))(variables, inputs())
        assert not prediction.is_empty(variables)


def test_nothing_is_kept_where_it_could_be_wrong_or_lost(cache, monkeypatch):
    assert open_programs(SETUP) is not None
    with monkeypatch.context() as patch:  # edits of this code would not be noticed
        patch.setitem(HEADS, Hour, HourHead)
        experiment = replace(SETUP.experiment, attributes=(Hour("time"),))
        assert open_programs(replace(SETUP, experiment=experiment)) is None
    with monkeypatch.context() as patch:
        patch.setattr(jax, "device_count", lambda: 2)
        assert open_programs(SETUP) is None
    for option, value in (
        ("jax_enable_compilation_cache", False),
        ("jax_compilation_cache_dir", None),
        ("jax_compilation_cache_dir", "gs://bucket/cache"),
    ):
        before = getattr(jax.config, option)
        jax.config.update(option, value)
        assert open_programs(SETUP) is None
        jax.config.update(option, before)
    assert open_programs(SETUP) is not None


def test_a_folder_that_cannot_be_written_is_not_used(tmp_path, variables):
    (tmp_path / "cache").write_text("a file in the place of the folder")
    found, traced = predict(tmp_path / "cache", variables)
    assert traced
    assert same(found, jax.jit(SETUP.model.predict)(variables, inputs()))


def test_an_operation_that_is_not_exported_is_compiled(tmp_path, variables, monkeypatch):
    def fail(*_):
        raise ValueError("not supported")

    monkeypatch.setattr(traced_programs.export, "export", fail)
    found, traced = predict(tmp_path, variables)
    assert traced
    assert same(found, jax.jit(SETUP.model.predict)(variables, inputs()))
    assert files(tmp_path) == []


def test_the_programs_used_least_recently_are_removed(tmp_path, variables, monkeypatch):
    given = [inputs(rows=rows) for rows in (1, 2, 3)]
    predict(tmp_path, variables, given[0])
    size = files(tmp_path)[0].stat().st_size
    monkeypatch.setattr(traced_programs, "LIMIT", int(2.5 * size))
    for minutes_ago, each in ((20, given[0]), (10, given[1])):
        before = set(files(tmp_path))
        predict(tmp_path, variables, each)
        (path,) = set(files(tmp_path)) - before or before
        then = path.stat().st_mtime - 60 * minutes_ago
        os.utime(path, (then, then))
    predict(tmp_path, variables, given[0])  # a use
    predict(tmp_path, variables, given[2])
    assert len(files(tmp_path)) == 2
    assert [predict(tmp_path, variables, each)[1] for each in (given[0], given[2])] == [False] * 2
    assert predict(tmp_path, variables, given[1])[1]
