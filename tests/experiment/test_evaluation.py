"""Tests of the scripts evaluate.py and predict.py, also with a run folder that was moved."""

import json
import re

import cv2
import numpy as np
import pytest
import scripts
from small_run import CONFIG, lines
from written import check_metrics, check_predictions, metric_names_of

from mtl_jax import Predictor, draw, experiment
from mtl_jax.config.options.evaluation import higher_is_better
from mtl_jax.config.overrides import load_config_file
from mtl_jax.config.resolve import resolve
from mtl_jax.data.records import Category
from mtl_jax.data.synthetic.head_scenes import SyntheticSource
from mtl_jax.evals.accumulate import metric_names
from mtl_jax.runs.folder import read_config

ATTRIBUTES = {
    "age": {"mae", "std"},
    "gender": {"accuracy", "macro_f1"},
    "smile": {"mae", "std", "accuracy"},
    "head": {f"{angle}/{name}" for angle in ("yaw", "pitch", "roll") for name in ("mae", "std")},
    "face": {"nme", "accuracy"},
}
SHOWN = {
    "age": {"value"},
    "gender": {"label", "scores"},
    "smile": {"value", "label"},
    "head": {"yaw", "pitch", "roll"},
    "face": {"points"},
}


def test_the_names_of_metrics_are_known_before_training():
    config = load_config_file(CONFIG)
    declared = resolve(config).attributes
    names = metric_names([Category(7, "head")], declared, masks=True)
    assert set(names) == metric_names_of(ATTRIBUTES, ["head"], masks=True)
    assert not higher_is_better("loss/attribute/age")
    assert {name for name in names if not higher_is_better(name)} == {
        *("age/mae", "age/std", "smile/mae", "smile/std", "face/nme"),
        *(f"head/{angle}/{n}" for angle in ("yaw", "pitch", "roll") for n in ("mae", "std")),
        *(f"{a}/misses" for a in ATTRIBUTES),
        "detections/false_alarms",
    }


def test_evaluation_writes_its_numbers_and_compiles_once(copy, compiled):
    compiled.clear()
    # After five steps few boxes are accurate: match every head with any overlap.
    loose = "--config.eval.iou_threshold=0.01"
    done = scripts.call("evaluate", "--workdir", copy, "--step", "latest", "--baseline", loose)
    assert done.code == 0, done.err
    assert compiled.count("predict") == 1
    metrics = check_metrics(copy / "evaluation/test/metrics.json", ATTRIBUTES, ["head"], True)
    config = read_config(copy / "config.json")
    unseen = experiment.open_data(resolve(config), "test", copy).sources[0]
    assert len(unseen) == 9
    assert metrics["age/instances"] == sum(len(unseen[i].instances) for i in range(9))
    found = json.loads((copy / "evaluation/test/predictions.json").read_text())
    ids = {unseen[i].file_name: unseen[i].image_id for i in range(9)}
    assert found
    assert all(ids[entry["file_name"]] == entry["image_id"] for entry in found)
    for word in ("AP50", "age", "yaw", "misses"):
        assert word in done.out
    assert re.search(r"\bage\b.* mae [\d.]+ \([\d.]+\)", done.out)  # in parentheses: median age
    done = scripts.call("evaluate", "--workdir", copy, "--split", "val", "--step", 5)
    assert done.code == 0, done.err
    validated = {k.removeprefix("val/"): v for k, v in lines(copy)[-1].items() if k != "step"}
    metrics = json.loads((copy / "evaluation/val/metrics.json").read_text())
    assert metrics == {k: v for k, v in validated.items() if not k.startswith("loss/")}


@pytest.mark.slow
def test_predictions_of_several_sources_name_their_source(copy):
    blocks = [
        dict(format="synthetic", name=name, split="test", length=2, seed=seed)
        for seed, name in enumerate("ab")
    ]
    found = []
    for name, chosen in (("two", blocks), ("one", blocks[1:])):
        (copy / "splits.json").unlink()
        given = f"--config.data.sources={tuple(chosen)}"
        done = scripts.call("evaluate", "--workdir", copy, "--name", name, given)
        assert done.code == 0, done.err
        found.append(json.loads((copy / f"evaluation/{name}/predictions.json").read_text()))
    two, one = found
    assert {entry["image_id"] for entry in two if entry["source"] == "a"} == {0, 1}
    assert one
    assert [entry for entry in two if entry["source"] == "b"] == [{**e, "source": "b"} for e in one]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--split", "tset"), ("tset", "train", "val", "test")),
        (("--step", "77"), (77, "latest", "best", 5)),
        (("--step", "lates"), ("lates", "latest", "best", 5)),
        (("--data", "/absent"), ("/absent",)),
        (("--data", "."), (".", "synthetic")),
        (("--config.model.backbone.depth=34",), ("config.model.backbone.depth", "config.data")),
        (("--config.eval.images=3",), ("config.eval.images",)),
        (("--config.data.pathh=x",), ("config.data.pathh", "config.data.path")),
    ],
)
def test_an_invalid_evaluation_is_one_line(trained, arguments, named):
    done = scripts.call("evaluate", "--workdir", trained.folder, *arguments)
    scripts.mistake(done, *named)


def write_images(folder):
    """Write three images of different sizes, one of them in a subfolder, and return the sizes."""
    sizes = {"a.png": (96, 140), "b.jpg": (200, 90), "deep/c.png": (33, 35)}
    for i, (name, (height, width)) in enumerate(sizes.items()):
        image = SyntheticSource(3, seed=5)[i].image
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), cv2.resize(np.asarray(image), (width, height)))
    return sizes


def test_predictions_from_a_folder_that_was_moved(copy, trained, tmp_path, monkeypatch):
    monkeypatch.delenv("MTL_JAX_DATA", raising=False)
    for name in ("splits.json", "metrics.jsonl"):
        (copy / name).unlink()
    sizes = write_images(tmp_path / "in")
    done = scripts.call(
        "predict", "--workdir", copy, "--input", tmp_path / "in", "--output", tmp_path / "out"
    )
    assert done.code == 0, done.err
    heads = {(c.id, c.name) for c in SyntheticSource(1, seed=0).categories}
    entries = check_predictions(tmp_path / "out", sizes, SHOWN, heads, masks=True)
    # Predictor, one image at a time, must return the same detections.
    predictor = Predictor.from_checkpoint(copy)
    for i, name in enumerate(sorted(sizes)):
        result = predictor(tmp_path / "in" / name)
        own = result.to_json(i, name)
        expected = [entry for entry in entries if entry["image_id"] == i]
        assert len(own) == len(expected) > 0
        np.testing.assert_allclose(
            [e["score"] for e in own], [e["score"] for e in expected], atol=1e-4
        )
        np.testing.assert_allclose(
            [e["bbox"] for e in own], [e["bbox"] for e in expected], atol=0.1
        )
        ages = [[e["attributes"]["age"]["value"] for e in found] for found in (own, expected)]
        np.testing.assert_allclose(ages[0], ages[1], atol=0.1)
        overlay = cv2.imread(str(tmp_path / "out/overlays" / f"{name}.png"))[..., ::-1]
        assert np.abs(draw(result.image, result).astype(int) - overlay).mean() < 1
