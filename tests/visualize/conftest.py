"""The three pages, each written once for all of its tests."""

import json

import numpy as np
import pytest
import scripts
from scenes import draw_variables

from mtl_jax.attributes.base import parse_labels
from mtl_jax.attributes.declarations import from_config
from mtl_jax.config.options.evaluation import EvalOptions
from mtl_jax.config.overrides import load_config_file, override
from mtl_jax.config.resolve import resolve
from mtl_jax.data.records import Category, Instance, Record
from mtl_jax.evals.accumulate import Evaluator
from mtl_jax.evals.error_analysis import ErrorAnalysis
from mtl_jax.results import Result
from mtl_jax.runs.initial import variable_shapes
from mtl_jax.runs.saving import save_run
from mtl_jax.runs.setup import Setup
from mtl_jax.visualize.__main__ import main
from mtl_jax.visualize.report.evaluation import write_report

CATEGORIES = (Category(1, "cat"), Category(2, "dog"))
ATTRIBUTES = from_config(
    {
        "age": dict(kind="continuous", range=(0, 20)),
        "sex": dict(kind="categorical", classes=("f", "m")),
        "size": dict(kind="ordinal", classes=("s", "m", "l")),
        "head": dict(kind="pose"),
        "face": dict(kind="landmarks", points=("nose", "ear")),
    }
)


@pytest.fixture(scope="session")
def data_page(tmp_path_factory):
    output = tmp_path_factory.mktemp("page") / "new"
    config = str(scripts.ROOT / "configs/mtl_synthetic.py:tiny")
    assert main(["data", "--config", config, "--output", str(output), "--limit", "6"]) == 0
    return output


@pytest.fixture(scope="session")
def fresh_run(tmp_path_factory):
    """Create a run with random weights and a score threshold of 0, so that it has detections."""
    config = load_config_file(str(scripts.ROOT / "configs/mtl_synthetic.py:tiny"))
    override(config, ["--config.model.detection.score_threshold=0.0"])
    setup = Setup.build(resolve(config), [Category(1, "head")])
    workdir = tmp_path_factory.mktemp("runs") / "fresh"
    save_run(workdir, setup, draw_variables(variable_shapes(setup)))
    return workdir


@pytest.fixture(scope="session")
def model_page(fresh_run, tmp_path_factory):
    output = tmp_path_factory.mktemp("look")
    arguments = ["model", "--workdir", str(fresh_run), "--input", "test:1", "--output", str(output)]
    assert main(arguments) == 0
    return output


def make_example(rng: np.random.Generator, number: int) -> tuple[Record, Result]:
    """Return an image with three objects, and detections of them with random errors."""
    instances, boxes, attributes = [], [], []
    for _ in range(3):
        x, y, w, h = rng.uniform((0, 0, 20, 20), (60, 50, 40, 40))
        labels = {
            "age": rng.uniform(0, 20),
            "sex": str(rng.choice(["f", "m"])),
            "size": str(rng.choice(["s", "m", "l"])),
            "head": dict(zip(("yaw", "pitch", "roll"), rng.uniform(-60, 60, 3), strict=True)),
            "face": [[x + w / 2, y + h / 2, 2], [x, y, 1]],
        }
        box = (x, y, x + w, y + h)
        polygon = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        instances.append(
            Instance(
                box, int(rng.integers(1, 3)), polygon, attributes=parse_labels(ATTRIBUTES, labels)
            )
        )
        boxes.append(np.array(box) + rng.normal(0, 2, 4))
        guess = {a.name: a.as_prediction(*a.parse(labels[a.name])) for a in ATTRIBUTES}
        attributes.append({name: v + rng.normal(0, 1, v.shape) for name, v in guess.items()})
    image = rng.integers(0, 255, (100, 120, 3), np.uint8)
    record = Record(image, 120, 100, number, f"{number}.png", tuple(instances))
    classes = np.array([instance.label for instance in instances])
    classes[0] = rng.integers(1, 3)
    result = Result(
        np.clip(boxes, 0, [120, 100, 120, 100]).astype(np.float32),
        rng.uniform(0.3, 1, 3).astype(np.float32),
        classes,
        tuple(CATEGORIES[c - 1].name for c in classes),
        classes,
        100,
        120,
        mask_probabilities=np.ones((3, 28, 28), np.float32),
        attributes={a.name: np.stack([g[a.name] for g in attributes]) for a in ATTRIBUTES},
        declared=ATTRIBUTES,
    )
    return record, result


@pytest.fixture(scope="session")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    groups = EvalOptions(groups=(("age", 10.0), ("sex", 0.0)), limits=(("age", 1.0),))
    evaluator, analysis = Evaluator(CATEGORIES, ATTRIBUTES, groups), ErrorAnalysis(CATEGORIES)
    rng = np.random.default_rng(0)
    for number in range(12):
        record, result = make_example(rng, number)
        evaluator.add(record, result)
        analysis.add(record, result)
    rows = [{"step": i, "train/loss": 1 / (i + 1), "val/box/AP": i / 9} for i in range(10)]
    history = folder / "metrics.jsonl"
    history.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 10, "tr')
    metrics = evaluator.metrics()
    write_report("made up", evaluator, analysis, metrics, folder / "report", history=history)
    return folder / "report", metrics | evaluator.group_metrics()
