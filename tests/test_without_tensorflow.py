"""`predict`, `convert` and `visualize` where TensorFlow and PyTorch are not installed."""

import json
import os
import subprocess
import sys

import cv2
import jax
import numpy as np
import pytest
import scripts
from scenes import draw_variables

from mtl_jax.config.overrides import load_config_file, override
from mtl_jax.config.resolve import resolve
from mtl_jax.data.records import Category
from mtl_jax.runs.initial import variable_shapes
from mtl_jax.runs.saving import save_run
from mtl_jax.runs.setup import Setup
from mtl_jax.training.single_file import read_pack, write_pack

CONFIG = str(scripts.ROOT / "configs/mtl_synthetic.py:tiny")
ABSENT = ("tensorflow", "tensorflow_datasets", "keras", "tensorboardX", "torch", "torchvision")
# What only training, or reading what training wrote, requires.
NOT_LOADED = ("optax", "orbax", "matplotlib", "mtl_jax.training.loop", "mtl_jax.experiment")
RUN = f"""
import json, runpy, sys
sys.modules.update(dict.fromkeys({ABSENT}))  # these cannot be imported
how, name, *sys.argv[1:] = sys.argv[1:]
try:
    runpy.run_path(name, run_name="__main__") if how == "path" else runpy.run_module(
        name, run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert not end.code, end.code
print(json.dumps([name for name in {NOT_LOADED} if name in sys.modules]))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Return a folder with a run, the same as a packed model, and an image."""
    folder = tmp_path_factory.mktemp("model")
    config = load_config_file(CONFIG)
    override(config, ["--config.model.detection.score_threshold=0.0"])
    setup = Setup.build(resolve(config), [Category(1, "head")])
    variables = draw_variables(variable_shapes(setup))
    save_run(folder / "run", setup, variables)
    write_pack(folder / "model.npz", setup.metadata, variables)
    pixels = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    cv2.imwrite(str(folder / "photo.png"), pixels)
    return folder


def start(how, name, *arguments):
    """Run a command in a new process; return the modules of NOT_LOADED that it loaded."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, how, str(name), *map(str, arguments)],
        cwd=scripts.ROOT,
        env={**os.environ, "GLIBC_TUNABLES": "glibc.malloc.check=0"},  # no restart
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("source", ["model.npz", "run"])
def test_predict_loads_neither_tensorflow_nor_training(model, tmp_path, source):
    script = scripts.ROOT / "predict.py"
    arguments = ("--workdir", model / source, "--input", model / "photo.png")
    assert start("path", script, *arguments, "--output", tmp_path) == []
    assert json.loads((tmp_path / "predictions.json").read_text())
    assert (tmp_path / "overlays/photo.png.png").exists()


@pytest.mark.slow
def test_convert_works(model, tmp_path):
    start("module", "mtl_jax.convert", "pack", model / "run", "--output", tmp_path / "new.npz")
    new, known = (read_pack(path)[1] for path in (tmp_path / "new.npz", model / "model.npz"))
    jax.tree.map(np.testing.assert_array_equal, new, known)
    exported = (model / "run", "--output", tmp_path / "exported", "--no-saved-model")
    start("module", "mtl_jax.convert", "export", *exported)
    assert list((tmp_path / "exported").glob("*.stablehlo"))


@pytest.mark.slow
def test_visualize_works(model, tmp_path):
    data = ("--config", CONFIG, "--limit", 4, "--output", tmp_path / "data")
    start("module", "mtl_jax.visualize", "data", *data)
    given = ("--workdir", model / "run", "--input", "test:0", "--output", tmp_path / "model")
    start("module", "mtl_jax.visualize", "model", *given)
    for page in ("data", "model"):
        assert (tmp_path / page / "index.html").exists()
