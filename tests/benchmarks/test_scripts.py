"""The smallest form of each script runs: what a type checker cannot see of it."""

import argparse
import importlib.util
import json
import subprocess
import sys

import pytest
import scripts

from benchmarks import pipeline
from mtl_jax.data.__main__ import main as data

TORCH = importlib.util.find_spec("torchvision") is not None
needs_torch = pytest.mark.skipif(not TORCH, reason="requires torchvision")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    data(["export", "synthetic", "--output", str(folder), "--count", "2", "--size", "64"])
    (folder / "annotations").mkdir()
    (folder / "annotations.json").rename(folder / "annotations/instances.json")
    return folder


def run(name, *arguments):
    command = [sys.executable, "-m", f"benchmarks.{name}", *map(str, arguments)]
    done = subprocess.run(command, cwd=scripts.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_face_masks():
    assert "48 x 48" in run("face_masks", "--sides", 48, "--masks", 3, "--runs", 1)


def test_mask_grid(scenes):
    found = run("mask_grid", "--annotations", scenes / "annotations/instances.json", "--masks", 3)
    assert found.splitlines()[-1].startswith("exact")


def test_the_parts_of_the_pipeline_are_timed(scenes):
    options = argparse.Namespace(data=str(scenes), probability=1.0, repeats=1)
    parts = pipeline._break_down(options, "augmented, masks")
    assert all(milliseconds > 0 for milliseconds in parts.values())
    assert max(parts, key=parts.__getitem__) == "all but batching"
    assert pipeline._break_down(options, "flip")["masks"] == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "libraries", [("mtl_jax",), pytest.param(("mtl_jax", "torchvision"), marks=needs_torch)]
)
def test_pipeline(scenes, tmp_path, libraries):
    smallest = ("--steps", 51, "--batch", 1, "--repeats", 1, "--cores", 1, "--data", scenes)
    report = tmp_path / "report.json"
    case = ("--cases", "flip, masks", "--breakdown", "--libraries", *libraries)
    run("pipeline", *smallest, *case, "--output", report)
    assert set(json.loads(report.read_text())["cases"]["flip, masks"]) == {*libraries, "breakdown"}
