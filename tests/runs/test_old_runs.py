"""Tests that a run of an earlier version is evaluated, resumed and used as initial weights.

old_run.tar.gz contains its folder, as written by train.py and evaluate.py of commit efc53ce, and
its config file.
"""

import json
import shutil
import tarfile
from pathlib import Path

import pytest
import scripts
from small_run import lines, variables


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(Path(__file__).with_name("old_run.tar.gz")) as file:
        file.extractall(folder, filter="data")
    return folder / "run"


@pytest.fixture
def run(untouched, tmp_path):
    return Path(shutil.copytree(untouched, tmp_path / "run"))


def read(run: Path, name: str):
    return json.loads((run / "evaluation/test" / name).read_text())


def test_an_old_run_is_evaluated_as_it_was(run):
    metrics, found = read(run, "metrics.json"), read(run, "predictions.json")
    done = scripts.call("evaluate", "--workdir", run, "--step", "latest")
    assert done.code == 0, done
    assert read(run, "metrics.json") == pytest.approx(metrics, abs=1e-3)
    again = read(run, "predictions.json")
    assert [entry["file_name"] for entry in again] == [entry["file_name"] for entry in found]
    for a, b in zip(again, found, strict=True):
        assert a["attributes"]["head"] == pytest.approx(b["attributes"]["head"], abs=1e-2)


def test_an_old_config_file_resumes_an_old_run(run):
    config = f"{run}/old_faces.py"
    done = scripts.call("train", "--config", config, "--workdir", run)
    assert done.code == 0, done
    assert "4" in done.out  # the steps that are done
    more = "--config.stages[1].steps=3"
    done = scripts.call("train", "--config", config, "--workdir", run, more)
    assert done.code == 0, done
    assert lines(run)[-1]["step"] == 5
    done = scripts.call(
        "train", "--config", config, "--workdir", run, more, "--config.train.seed=3"
    )
    scripts.mistake(done, run, "train.seed", 0, 3)


def test_another_run_starts_from_an_old_one(run, tmp_path):
    config, other = f"{run}/old_faces.py", tmp_path / "other"
    start = f"--config.init.checkpoint={run}"
    done = scripts.call("train", "--config", config, "--workdir", other, start)
    assert done.code == 0, done
    assert "fresh" not in done.out
    assert variables(other).keys() == variables(run).keys()
