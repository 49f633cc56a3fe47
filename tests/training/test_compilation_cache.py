"""The folder of the compilation cache, and its use by later starts."""

import json
import os
import subprocess
import sys

import cv2
import jax
import numpy as np
import pytest
import scripts

from mtl_jax.training.compilation_cache import enable_compilation_cache


@pytest.fixture(autouse=True)
def _restore():
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_the_environment_has_priority_over_the_argument_over_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert enable_compilation_cache() == str(tmp_path / "mtl_jax/xla")
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "mtl_jax/xla")
    assert enable_compilation_cache("/a/folder") == "/a/folder"
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/b/folder")
    assert enable_compilation_cache("/a/folder") == "/b/folder"
    assert jax.config.jax_compilation_cache_dir == "/b/folder"


def start(cache, script, *arguments):
    """Run a script in a new process; return its compilations, and how many `cache` had."""
    done = subprocess.run(
        [
            sys.executable,
            scripts.ROOT / "tests/counted_start.py",
            script,
            *map(str, arguments),
        ],
        env={**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


SHORT = (
    "--config.stages=({'layers':'all','steps':1,'learning_rate':0.0},)",
    "--config.eval.loss=False",
    *(f"--config.data.sources[{i}].length=4" for i in range(3)),
)


@pytest.mark.slow
def test_a_program_is_only_compiled_once(tmp_path):
    """Later trainings, evaluation and prediction find all of their programs in the cache."""
    cache, image = tmp_path / "cache", tmp_path / "a.png"
    cv2.imwrite(str(image), np.zeros((64, 96, 3), np.uint8))
    config = ("--config", "configs/shapes.py:tiny", *SHORT, "--workdir")
    run = ("--workdir", tmp_path / "first")
    compiled, found = start(cache, "train", *config, tmp_path / "first")
    assert found < compiled
    again = {
        "train": (*config, tmp_path / "second"),
        "evaluate": run,
        "predict": (*run, "--input", image, "--output", tmp_path / "out"),
    }
    for script, arguments in again.items():
        compiled, found = start(cache, script, *arguments)
        assert found == compiled > 0, script


def test_a_user_without_a_home_has_the_named_cache_or_none(monkeypatch):
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as without a home
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert enable_compilation_cache("/a/folder") == "/a/folder"
    assert enable_compilation_cache() == ""
    monkeypatch.setenv("XDG_CACHE_HOME", "/c")
    assert enable_compilation_cache() == "/c/mtl_jax/xla"
