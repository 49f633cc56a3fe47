"""Fixtures: one small run of the real model, which the tests of this folder read or copy."""

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
import scripts
from jax import monitoring
from small_run import ARGUMENTS, CONFIG


class Trained(NamedTuple):
    """The folder of a run with ARGUMENTS, and the names of the programs compiled for it."""

    folder: Path
    compiled: list[str]


@pytest.fixture(scope="package")
def compiled():
    """Yield a list to which the name of every newly compiled program is appended."""
    names: list[str] = []

    def listen(event, duration, **about):
        if event.endswith("backend_compile_duration"):
            names.append(about["fun_name"].removeprefix("jit(").removesuffix(")"))

    monitoring.register_event_duration_secs_listener(listen)
    yield names
    monitoring.unregister_event_duration_listener(listen)


@pytest.fixture(scope="package")
def trained(tmp_path_factory, compiled):
    folder = tmp_path_factory.mktemp("run") / "whole"
    compiled.clear()
    done = scripts.call("train", "--config", CONFIG, "--workdir", folder, *ARGUMENTS)
    assert done.code == 0, done
    return Trained(folder, list(compiled))


@pytest.fixture
def copy(trained, tmp_path):
    """Return a copy of the run in another folder, which a test may change."""
    return Path(shutil.copytree(trained.folder, tmp_path / "moved" / "run"))
