"""Tests of every config: one batch and the shapes of the model's outputs; and training, evaluation
and prediction with tiny variants, on real data if the config uses it.
"""

import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import jax
import numpy as np
import pytest
import scripts
from config_data import few, write_all
from faces import write_biwi
from real_data import data_set
from small_run import lines
from written import check_metrics, check_predictions

from mtl_jax import Predictor, experiment
from mtl_jax.config.defaults import get_default
from mtl_jax.config.overrides import load_config_file
from mtl_jax.config.resolve import resolve
from mtl_jax.data.loader.pipeline import eval_batches
from mtl_jax.data.records import Category
from mtl_jax.runs.initial import variable_shapes
from mtl_jax.runs.setup import Setup
from mtl_jax.training.checkpoint import Checkpointer
from mtl_jax.training.step import make_loss
from mtl_jax.training.transfer import transfer

CONFIGS = scripts.ROOT / "configs"
# One stage of one step, to compile fewer programs. The tests of mtl_synthetic:tiny run all stages.
SHORT = (
    "--config.stages=({'layers':'4+','steps':1,'learning_rate':0.0},)",
    "--config.eval.loss=False",
    "--config.eval.batch_size=2",
)
AGE = {"mae", "std", "cs5"}
CLASSES = {"accuracy", "macro_f1"}
POSE = {"yaw/mae", "yaw/std", "pitch/mae", "pitch/std"}


@pytest.mark.slow
def test_torchvision_weights_initialize_the_balloon_config():
    def zeros(config, classes):
        categories = [Category(i, f"c{i}") for i in range(1, classes + 1)]
        setup = Setup.build(resolve(config), categories)
        return jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), variable_shapes(setup))

    ours = zeros(load_config_file(f"{CONFIGS / 'balloon.py'}:resnet50"), 1)
    _, rows = transfer(ours, zeros(get_default(), 90))
    fresh = [row.path for row in rows if row.outcome != "copied"]
    outputs = re.compile("/(class_logits|box_deltas|mask_logits)")
    assert len(fresh) == 6  # kernel and bias of three layers
    assert all(outputs.search(path) for path in fresh)


def test_every_config_has_its_variants():
    for path in CONFIGS.glob("*.py"):
        for variant in ("", "tiny"):
            config = load_config_file(f"{path}:{variant}" if variant else str(path))
            assert resolve(config).stages
        tiny, full = load_config_file(f"{path}:tiny"), load_config_file(str(path))
        # The tiny variant has every head, loss and output of the full config.
        assert set(tiny.attributes) == set(full.attributes)
        assert resolve(tiny).has_masks == resolve(full).has_masks
        assert resolve(tiny).steps <= 10


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_all(folder)
    return folder


@pytest.mark.parametrize("name", sorted(path.stem for path in CONFIGS.glob("*.py")))
def test_every_model_accepts_a_batch_of_its_config(name, data, tmp_path, monkeypatch):
    monkeypatch.setenv("MTL_JAX_DATA", str(data))
    config = load_config_file(f"{CONFIGS / name}.py")
    if name == "coco_mask_rcnn":  # COCO is not available
        config.data.update(load_config_file(f"{CONFIGS / name}.py:tiny").data)
    if config.family == "hyperface":  # others require proposals in the batch
        config.model.detection.proposals = "windows"
    resolved = resolve(config)
    training = experiment.open_data(resolved, "train", tmp_path)
    setup = Setup.build(resolved, training.categories)
    regions = experiment.as_regions(setup, training)
    loop = replace(setup.experiment.train, batch_size=2)
    batch = next(experiment.train_batches(setup, regions, loop, 0))
    assert batch.valid.all()
    assert batch.images.any()
    variables = variable_shapes(setup)
    key = jax.random.key(0)
    total, terms, stats = jax.eval_shape(make_loss(setup.model), variables, batch, key)
    assert total.shape == ()
    assert set(terms) == set(setup.model.weights)
    assert {leaf.shape for leaf in jax.tree.leaves(terms)} == {()}
    assert stats.keys() == variables["batch_stats"].keys()
    images = next(
        eval_batches(training.sources[0], setup.attributes, setup.experiment.data, batch_size=2)
    )
    found = jax.eval_shape(setup.model.predict, variables, images.inputs)
    assert found.boxes.shape == (2, found.valid.shape[1], 4)
    assert (found.masks is not None) == setup.experiment.has_masks
    sizes = {name: values.shape[2] for name, values in found.attributes.items()}
    assert sizes == {a.name: a.prediction_size for a in setup.attributes}


WITH_FAIRFACE = ("maskmtl_best.py", "utkface_attributes.py")


def run_all(config: str, tmp_path: Path, arguments: tuple[str, ...] = ()) -> Path:
    """Train a config's tiny variant, evaluate it and return the run folder."""
    run = tmp_path / "run"
    path = f"{CONFIGS / config}:tiny"
    done = scripts.call("train", "--config", path, "--workdir", run, *SHORT, *arguments)
    assert done.code == 0, done
    assert lines(run)[0]["step"] == 1
    assert Checkpointer(run / "checkpoints").steps() == [1]
    done = scripts.call("evaluate", "--workdir", run)
    assert done.code == 0, done
    return run


def predict(run: Path, images: list[Path], tmp_path: Path, monkeypatch):
    """Predict with a moved run and without the data folder; return the output and image sizes."""
    monkeypatch.delenv("MTL_JAX_DATA", raising=False)
    moved = Path(shutil.move(run, tmp_path / "moved"))
    out = tmp_path / "out"
    folder = tmp_path / "images"
    folder.mkdir()
    for path in images:
        shutil.copy(path, folder)
    done = scripts.call("predict", "--workdir", moved, "--input", folder, "--output", out)
    assert done.code == 0, done
    sizes = {path.name: cv2.imread(str(path)).shape[:2] for path in folder.iterdir()}
    return out, sizes


@pytest.mark.slow
def test_shapes(tmp_path, monkeypatch):
    from mtl_jax.data.synthetic.shapes import ShapesSource

    lengths = [f"--config.data.sources[{i}].length=4" for i in range(3)]
    run = run_all("shapes.py", tmp_path, tuple(lengths))
    shapes = ["square", "circle", "triangle"]
    check_metrics(run / "evaluation/test/metrics.json", {}, shapes, masks=True)
    image = tmp_path / "shape.png"
    cv2.imwrite(str(image), cv2.resize(ShapesSource(1, seed=9)[0].image, (90, 70)))
    out, sizes = predict(run, [image], tmp_path, monkeypatch)
    known = {(c.id, c.name) for c in ShapesSource(1, seed=0).categories}
    check_predictions(out, sizes, {}, known, masks=True)


@pytest.mark.slow
def test_coco(tmp_path, monkeypatch):
    folder = data_set("coco_mini")
    # After one step the scores of the 81 classes are near 1/81, below the default threshold.
    run = run_all("coco_mask_rcnn.py", tmp_path, ("--config.model.detection.score_threshold=0.0",))
    categories = Predictor.from_checkpoint(run).categories
    metrics = (run / "evaluation/test/metrics.json").read_text()
    assert '"mask/AP50"' in metrics
    assert len(categories) == 80
    images = sorted((folder / "images").rglob("*.jpg"))[:3]
    out, sizes = predict(run, images, tmp_path, monkeypatch)
    check_predictions(out, sizes, {}, {(c.id, c.name) for c in categories}, masks=True)


def on_utkface(config: str, *marks: pytest.MarkDecorator):
    measured = {"age": AGE, "gender": CLASSES, "race": CLASSES}
    shown = {"age": {"value"}, "gender": {"label", "scores"}, "race": {"label", "scores"}}
    return pytest.param(config, "utkface_crop_part1", measured, shown, marks=marks)


@pytest.mark.parametrize(
    ("config", "name", "attributes", "shown"),
    [
        pytest.param(
            "prima_pose.py",
            "prima_headpose",
            {"head": POSE},
            {"head": {"yaw", "pitch"}},
            marks=pytest.mark.slow,
        ),
        on_utkface("maskmtl_utkface.py"),
        on_utkface("utkface_age.py", pytest.mark.slow),
        on_utkface("maskmtl_nonlocal.py", pytest.mark.slow),
        on_utkface("maskmtl_best.py", pytest.mark.slow),
        on_utkface("utkface_attributes.py", pytest.mark.slow),
    ],
)
def test_faces(tmp_path, monkeypatch, config, name, attributes, shown):
    root = tmp_path / "data"
    few(name, root, count=60)
    if config in WITH_FAIRFACE:
        (root / "fairface").symlink_to(data_set("fairface"))
    monkeypatch.setenv("MTL_JAX_DATA", str(root))
    run = run_all(config, tmp_path)
    (category,) = Predictor.from_checkpoint(run).categories
    path = run / "evaluation/test/metrics.json"
    check_metrics(path, attributes, [category.name], masks=False)
    done = scripts.call("evaluate", "--workdir", run, "--data", root / name)
    assert done.code == 0, done
    path = run / "evaluation/external/metrics.json"
    found = check_metrics(path, attributes, [category.name], masks=False)
    images = sorted((root / name).rglob("*.jpg"))
    assert found[f"{next(iter(attributes))}/instances"] == len(images)
    monkeypatch.setenv("MTL_JAX_DATA", os.devnull)
    out, sizes = predict(run, images[:3], tmp_path, monkeypatch)
    check_predictions(out, sizes, shown, {(category.id, category.name)}, masks=False)


@pytest.mark.slow
def test_biwi(tmp_path, monkeypatch):
    write_biwi(tmp_path / "data/biwi")
    monkeypatch.setenv("MTL_JAX_DATA", str(tmp_path / "data"))
    run = run_all("biwi_pose.py", tmp_path)
    angles = POSE | {"roll/mae", "roll/std"}
    path = run / "evaluation/test/metrics.json"
    check_metrics(path, {"head": angles}, ["head"], masks=False)
    images = sorted((tmp_path / "data").rglob("*.png"))
    out, sizes = predict(run, images[:2], tmp_path, monkeypatch)
    check_predictions(out, sizes, {"head": {"yaw", "pitch", "roll"}}, {(1, "head")}, masks=False)
