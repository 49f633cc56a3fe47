"""Tests of HyperFace's configs, from training to predictions, with tiny variants."""

import json
import os
from pathlib import Path

import cv2
import jax
import numpy as np
import pytest
import scripts
from config_data import few, few_of_coco, write_aflw
from mistakes import check_names, refused
from small_run import lines
from test_configs import CLASSES, CONFIGS, POSE, predict
from written import check_metrics, check_predictions

from mtl_jax import Predictor, draw, experiment
from mtl_jax.config.options.hyperface import PROPOSALS, HyperFaceOptions, proposal_overrides
from mtl_jax.config.options.training import LoopOptions
from mtl_jax.config.overrides import load_config_file, override
from mtl_jax.config.resolve import resolve
from mtl_jax.data.datasets.sources import Opened
from mtl_jax.data.loader import transforms
from mtl_jax.data.loader.pipeline import eval_batches
from mtl_jax.data.records import Category
from mtl_jax.data.synthetic.head_scenes import SyntheticSource
from mtl_jax.models.hyperface.face_rectangle import first_rectangle
from mtl_jax.runs.initial import initial_variables
from mtl_jax.runs.loading import make_propose
from mtl_jax.runs.saving import save_run
from mtl_jax.runs.setup import Setup
from mtl_jax.training.sharding import make_mesh

ATTRIBUTES = {"head": POSE | {"roll/mae", "roll/std"}, "face": {"nme", "accuracy"}}
ATTRIBUTES |= {"gender": CLASSES}
SHOWN = {"head": {"yaw", "pitch", "roll"}, "face": {"points"}, "gender": {"label", "scores"}}
# For ResNets: smaller inputs and fewer regions.
SMALL = (
    "--config.model.input_size=32",
    "--config.model.windows.min_side=170.0",
    "--config.model.detection.max_proposals=64",
    "--config.model.detection.max_candidates=16",
)
SHORT = (
    "--config.stages=({'layers':'all','steps':1,'learning_rate':0.0},)",
    "--config.eval.loss=False",
    # After one step, scores are near 0.5, on either side.
    "--config.model.detection.score_threshold=0.0",
)


def run(config: str, folder: Path, *arguments: str) -> Path:
    """Train a config's tiny variant, evaluate it on split test and return the run folder."""
    done = scripts.call(
        "train", "--config", f"{CONFIGS / config}:tiny", "--workdir", folder, *SHORT, *arguments
    )
    assert done.code == 0, done
    done = scripts.call("evaluate", "--workdir", folder)
    assert done.code == 0, done
    return folder


def lengths(*numbers: int) -> tuple[str, ...]:
    return tuple(f"--config.data.sources[{i}].length={n}" for i, n in enumerate(numbers))


def drawn_images(folder: Path) -> list[Path]:
    folder.mkdir()
    paths = [folder / "tall.png", folder / "wide.png"]
    for path, size in zip(paths, ((120, 80), (70, 130)), strict=True):
        image = SyntheticSource(1, seed=9, size=size, heads=(1, 1))[0].image
        cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return paths


def test_one_step_is_evaluated_and_predicts(tmp_path, monkeypatch):
    folder = run("hyperface_synthetic.py", tmp_path / "run", *lengths(2, 1, 2), *SMALL)
    check_metrics(folder / "evaluation/test/metrics.json", ATTRIBUTES, ["head"], masks=False)
    images = drawn_images(tmp_path / "drawn")
    out, sizes = predict(folder, images, tmp_path, monkeypatch)
    check_predictions(out, sizes, SHOWN, {(1, "head")}, masks=False)


@pytest.mark.slow
def test_synthetic(tmp_path, monkeypatch):
    """Test stages, validation with losses, evaluation without IRP and L-NMS, and predictions."""
    workdir = tmp_path / "run"
    done = scripts.call(
        "train",
        "--config",
        f"{CONFIGS / 'hyperface_synthetic.py'}:tiny",
        "--workdir",
        workdir,
        *SMALL,
        "--config.model.detection.score_threshold=0.0",
        *lengths(4, 2, 2),
    )
    assert done.code == 0, done
    last = lines(workdir)[-1]
    terms = {"class_logits", "attribute/head", "attribute/face", "visibility/face"}
    terms |= {"attribute/gender", "loss"}
    assert {f"val/loss/{name}" for name in terms} <= set(last)
    path = workdir / "evaluation/test/metrics.json"
    found = []
    for change in ("", "rounds=0", "landmark_nms=False"):
        flags = [f"--config.model.detection.{change}"] if change else []
        done = scripts.call("evaluate", "--workdir", workdir, *flags)
        assert done.code == 0, done
        check_metrics(path, ATTRIBUTES, ["head"], masks=False)
        found.append(path.read_text())
    assert len(set(found)) == 3
    images = drawn_images(tmp_path / "drawn")
    out, sizes = predict(workdir, images, tmp_path, monkeypatch)
    check_predictions(out, sizes, SHOWN, {(1, "head")}, masks=False)
    result = Predictor.from_checkpoint(tmp_path / "moved")(str(images[0]))
    assert len(result)
    assert draw(result.image, result, min_score=0).shape == (120, 80, 3)


@pytest.mark.slow
def test_the_face_network_initializes_hyperface(tmp_path, monkeypatch):
    face = run("rcnn_face.py", tmp_path / "face", *lengths(4, 2, 2))
    metrics = json.loads((face / "evaluation/test/metrics.json").read_text())
    assert "box/AP50" in metrics
    write_aflw(tmp_path / "data/aflw")
    monkeypatch.setenv("MTL_JAX_DATA", str(tmp_path / "data"))
    divided = "--config.data.fractions=(0.5,0.25,0.25)"
    done = scripts.call(
        "train",
        "--config",
        f"{CONFIGS / 'hyperface_aflw.py'}:tiny",
        "--workdir",
        tmp_path / "run",
        *SHORT,
        divided,
        f"--config.init.checkpoint={face}",
    )
    assert done.code == 0, done
    assert "params/backbone" in done.out
    assert len(list((tmp_path / "run/proposals").glob("*.npz"))) == 6  # of splits train and val
    done = scripts.call("evaluate", "--workdir", tmp_path / "run")
    assert done.code == 0, done
    path = tmp_path / "run/evaluation/test/metrics.json"
    check_metrics(path, ATTRIBUTES, ["face"], masks=False)


@pytest.mark.slow
def test_resnet(tmp_path, monkeypatch):
    write_aflw(tmp_path / "data/aflw")
    monkeypatch.setenv("MTL_JAX_DATA", str(tmp_path / "data"))
    folder = run("hyperface_resnet.py", tmp_path / "run", "--config.data.fractions=(0.5,0.25,0.25)")
    check_metrics(folder / "evaluation/test/metrics.json", ATTRIBUTES, ["face"], masks=False)
    monkeypatch.setenv("MTL_JAX_DATA", os.devnull)
    images = drawn_images(tmp_path / "drawn")
    out, sizes = predict(folder, images, tmp_path, monkeypatch)
    check_predictions(out, sizes, SHOWN, {(1, "face")}, masks=False)


@pytest.mark.slow
def test_mixed(tmp_path, monkeypatch):
    names = ("helen_afw_68", "ytfaces68_udacity", "aflw2000_prnet16")
    names += ("prima_headpose", "fairface", "utkface_crop_part1")
    for name in names:
        few(name, tmp_path / "data", count=12)
    few_of_coco(tmp_path / "data", count=16)
    monkeypatch.setenv("MTL_JAX_DATA", str(tmp_path / "data"))
    drawn = "--config.data.sources[7].length=2"
    folder = run("hyperface_mixed.py", tmp_path / "run", drawn, *SMALL)
    metrics = json.loads((folder / "evaluation/test/metrics.json").read_text())
    assert metrics["face/labelled"] > 0
    assert metrics["gender/labelled"] > 0
    assert metrics["head/labelled"] > 0
    found = json.loads((folder / "evaluation/test/landmarks.json").read_text())
    assert found["nme"]["all"]["instances"] == metrics["face/labelled"]
    images = sorted((tmp_path / "data/helen_afw_68").rglob("*.jpg"))[:2]
    out, sizes = predict(folder, images, tmp_path, monkeypatch)
    check_predictions(out, sizes, SHOWN, {(1, "face")}, masks=False)


def setup(*overrides: str) -> Setup:
    config = load_config_file(f"{CONFIGS / 'hyperface_synthetic.py'}:tiny")
    override(config, overrides)
    return Setup.build(resolve(config).in_views(), [Category(1, "head")])


def saved(folder: Path, config: str, *overrides: str) -> Setup:
    """Save an untrained run of a config's tiny variant and return its setup."""
    read = load_config_file(f"{CONFIGS / config}:tiny")
    override(read, overrides)
    made = Setup.build(resolve(read), [Category(1, "head")])
    save_run(folder, made, initial_variables(made, seed=0))
    return made


@pytest.mark.slow
def test_proposals_of_selective_search_and_of_an_rpn(tmp_path):
    run, rpn = tmp_path / "run", tmp_path / "rpn"
    field = "--config.model.detection"
    small = (*SMALL, "--config.model.resnet.width=4", f"{field}.score_threshold=0.0")
    saved(run, "hyperface_synthetic.py", *lengths(2, 2, 3), *small)
    saved(rpn, "mtl_synthetic.py", "--config.model.rpn.post_nms=20")
    found, path = [], run / "evaluation/test/metrics.json"
    for change in (proposal_overrides("fast"), proposal_overrides(str(rpn))):
        done = scripts.call("evaluate", "--workdir", run, *change)
        assert done.code == 0, done
        found.append(path.read_text())
    assert found[0] != found[1]
    assert len(list((run / "proposals").glob("*.npz"))) == 3  # stored for the next evaluation
    folder = tmp_path / "drawn"
    folder.mkdir()
    for i in range(4):
        cv2.imwrite(str(folder / f"{i}.png"), SyntheticSource(4, 9, (90, 120))[i].image)
    for kind in ("fast", rpn):
        out = tmp_path / "out"
        done = scripts.call(
            "predict", "--workdir", run, "--input", folder, "--output", out, "--proposals", kind
        )
        assert done.code == 0, done
        assert "proposals 0." in done.out  # seconds per image
        assert json.loads((out / "predictions.json").read_text())
    assert len(list((run / "proposals").glob("*.npz"))) == 3  # predict.py stores none
    done = scripts.call("evaluate", "--workdir", run, f"{field}.proposals=slow")
    scripts.mistake(done, "model.detection.proposals", "'slow'", *PROPOSALS)


def test_an_unusable_rpn_is_one_line(tmp_path):
    def propose(rpn: object, **changes: object) -> None:
        config = load_config_file(f"{CONFIGS / 'hyperface_synthetic.py'}:tiny")
        override(config, proposal_overrides(str(rpn)))
        config.data.update(**changes)
        config.model.update(pixel_mean=(0.5,), pixel_std=(0.25,))  # for any number of channels
        made = Setup.build(resolve(config), [Category(1, "head")])
        make_propose(made, make_mesh())

    field = "config.model.detection.rpn"
    with refused(field, "mask_rcnn"):
        propose("")
    with refused(field, tmp_path / "none/checkpoints"):
        propose(tmp_path / "none")
    save_run(tmp_path / "run", setup(), {"params": {"a": np.ones(1)}, "batch_stats": {}})
    with refused(field, tmp_path / "run", "mask_rcnn", "hyperface"):
        propose(tmp_path / "run")
    config = load_config_file(f"{CONFIGS / 'mtl_synthetic.py'}:tiny")
    other = Setup.build(resolve(config), [Category(1, "head")])
    save_run(tmp_path / "rpn", other, {"params": {"a": np.ones(1)}, "batch_stats": {}})
    with refused(field, tmp_path / "rpn") as caught:
        propose(tmp_path / "rpn", channels=1)
    check_names(str(caught.value).replace(str(tmp_path), ""), 3, 1)  # channels


def test_a_model_with_external_proposals_requires_them():
    config = load_config_file(f"{CONFIGS / 'hyperface_synthetic.py'}:tiny")
    override(config, proposal_overrides("fast"))
    made = Setup.build(resolve(config), [Category(1, "head")])
    row = transforms.empty_row((192, 192), made.attributes, made.experiment.data)
    batch = jax.tree.map(lambda x: x[None], row)
    untrained = {"params": {}, "batch_stats": first_rectangle(HyperFaceOptions())}
    field = "config.model.detection.proposals"
    with refused(field, "'fast'", f"--{field}=windows"):
        made.model.predict(untrained, batch.inputs)


def test_training_uses_regions_and_evaluation_images():
    drawn = SyntheticSource(2, seed=0, size=(192, 192))
    opened = Opened((drawn,), (1.0,), drawn.categories)
    seen = experiment.as_regions(setup(), opened)
    assert len(seen.sources[0]) == 2 * setup().experiment.data.regions.per_image
    batches = experiment.train_batches(setup(), seen, LoopOptions(batch_size=3), 0)
    side = setup().experiment.model.input_size
    assert next(batches).images.shape == (3, side, side, 3)
    images = eval_batches(drawn, setup().attributes, setup().experiment.data, batch_size=2)
    assert next(images).images.shape == (2, 192, 192, 3)


def test_views_at_test_time_are_refused():
    with refused("config.eval.flip", "scales", "hyperface"):
        setup("--config.eval.flip=True")


def test_min_visible_does_not_apply_to_regions():
    config = load_config_file(str(CONFIGS / "hyperface_synthetic.py"))
    override(config, ["--config.data.min_visible=0.7"])
    resolved = resolve(config)
    assert (resolved.data.min_visible, resolved.training_data.min_visible) == (0.7, 0.0)
    override(config, ["--config.data.augment.scale=(1.0,2.0)"])
    with refused("config.data.augment.scale", "hyperface", "config.data.regions"):
        resolve(config)
