"""One small run of the real model, which the tests here look at or copy."""

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
import scripts
from jax import monitoring
from small_run import ARGUMENTS, CONFIG


class Trained(NamedTuple):
    """A run of ARGUMENTS, and the programs that were compiled for it."""

    folder: Path
    compiled: list[str]


@pytest.fixture(scope="package")
def compiled():
    """Give the list to which the name of each program is added that is compiled from now on."""
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
    """Give a copy of the run that a test may change, far from where it was trained."""
    return Path(shutil.copytree(trained.folder, tmp_path / "moved" / "run"))
