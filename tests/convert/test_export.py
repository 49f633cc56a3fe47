import hashlib
import json
import subprocess
import sys

import cv2
import jax
import numpy as np
import pytest
from mistakes import check_names, refused

from mtl_jax import Predictor
from mtl_jax.config.overrides import load_config_file
from mtl_jax.config.resolve import resolve
from mtl_jax.convert.__main__ import main
from mtl_jax.convert.export import export
from mtl_jax.data.records import Category
from mtl_jax.runs.initial import initial_variables
from mtl_jax.runs.saving import save_run
from mtl_jax.runs.setup import Setup

pytestmark = pytest.mark.slow
SIDE = 128


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return a folder with a run that has detections, and its exported model."""
    folder = tmp_path_factory.mktemp("exported")
    config = load_config_file("configs/mtl_synthetic.py:tiny")
    config.model.detection.score_threshold = 0.0
    setup = Setup.build(resolve(config), [Category(7, "head")])
    save_run(folder / "run", setup, initial_variables(setup, seed=0))
    export(folder / "run", folder / "exported", batch_size=2)
    return folder


def photo(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (90, SIDE, 3), np.uint8)


def padded_photos():
    pixels = np.zeros((2, SIDE, SIDE, 3), np.uint8)
    pixels[:, :90] = photo()
    return pixels, np.tile(np.array([90, SIDE], np.float32), (2, 1))


def test_stablehlo_is_the_model(run):
    data = (run / "exported" / f"model_{SIDE}x{SIDE}.stablehlo").read_bytes()
    exported = jax.export.deserialize(bytearray(data))
    assert exported.platforms == ("cpu", "cuda", "tpu")
    found = jax.jit(exported.call)(*padded_photos())
    expected = Predictor.from_checkpoint(run / "run")(photo())
    count = len(expected.boxes)
    assert count > 5
    np.testing.assert_allclose(found["boxes"][0, :count], expected.boxes, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(found["scores"][1, :count], expected.scores, rtol=1e-5)
    np.testing.assert_allclose(
        found["attribute_age"][0, :count, 0], expected.attributes["age"].ravel(), rtol=1e-5
    )


def test_saved_model_is_the_model(run):
    tf = pytest.importorskip("tensorflow")
    loaded = tf.saved_model.load(str(run / "exported" / "saved_model"))
    pixels, sizes = padded_photos()
    detect = loaded.signatures[f"detect_{SIDE}x{SIDE}"]
    found = detect(images=tf.constant(pixels), sizes=tf.constant(sizes))
    expected = Predictor.from_checkpoint(run / "run")(photo())
    count = len(expected.boxes)
    np.testing.assert_allclose(found["boxes"][0, :count], expected.boxes, atol=0.01)
    np.testing.assert_allclose(found["scores"][0, :count], expected.scores, atol=1e-4)


def test_the_loader_needs_neither_this_library_nor_flax(run):
    cv2.imwrite(str(run / "photo.png"), photo()[..., ::-1])
    hidden = "import sys; sys.modules.update(mtl_jax=None, flax=None, tensorflow=None); "
    program = "import runpy; sys.argv = ['', 'photo.png']; runpy.run_path('exported/load.py')"
    done = subprocess.run(
        [sys.executable, "-c", hidden + program],
        cwd=run,
        capture_output=True,
        text=True,
        check=True,
    )
    first = Predictor.from_checkpoint(run / "run")(photo())
    lines = done.stdout.splitlines()
    assert len(lines) == len(first.boxes)
    box = json.loads(
        lines[0].partition("[")[1] + lines[0].partition("[")[2].partition("]")[0] + "]"
    )
    np.testing.assert_allclose(box, first.boxes[0], atol=0.06)
    check_names(lines[0], "head", "age")


def test_model_json_describes_the_arrays(run):
    description = json.loads((run / "exported" / "model.json").read_text())
    assert description["classes"] == {"1": "head"}
    assert description["category_ids"] == {"1": 7}
    assert description["canvases"] == [[SIDE, SIDE]]
    assert description["attributes"]["gender"]["classes"] == ["male", "female"]


def test_a_packed_model_predicts_as_its_run_does(run, capsys):
    assert main(["pack", str(run / "run"), "--output", str(run / "model.npz")]) == 0
    digest = hashlib.sha256((run / "model.npz").read_bytes()).hexdigest()
    check_names(capsys.readouterr().out, run / "model.npz", digest)
    packed, expected = (
        Predictor.from_checkpoint(run / name)(photo()) for name in ("model.npz", "run")
    )
    np.testing.assert_array_equal(packed.boxes, expected.boxes)
    np.testing.assert_array_equal(packed.scores, expected.scores)


def test_a_packed_model_requires_its_suffix(run):
    with refused("model.zip", ".npz"):
        main(["pack", str(run / "run"), "--output", "model.zip"])


def test_a_folder_that_contains_files_is_refused(run):
    with refused(run / "exported", "--output"):
        export(run / "run", run / "exported")
