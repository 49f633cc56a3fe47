"""The page of an evaluation, of a made-up model on pictures drawn here."""

import json

import cv2
import numpy as np
import pytest

from mtl_jax.attributes import from_config
from mtl_jax.data.records import Category, Instance, Record
from mtl_jax.evals.accumulate import Evaluator
from mtl_jax.results import Result
from mtl_jax.visualize.report import write_report

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
PICTURES = (
    "box_curves",
    "mask_curves",
    "confusion",
    "overlaps",
    "calibration",
    "training",
    "worst",
)
PICTURES += ("overlap_grid", "attribute_age", "attribute_sex", "attribute_size", "attribute_face")
PICTURES += tuple(f"attribute_head_{angle}" for angle in ("yaw", "pitch", "roll"))


def add_picture(evaluator: Evaluator, rng: np.random.Generator, number: int) -> None:
    """Add a picture with three things, of which most are found, more or less well."""
    things, boxes, attributes = [], [], []
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
        things.append(Instance(box, int(rng.integers(1, 3)), polygon, attributes=labels))
        boxes.append(np.array(box) + rng.normal(0, 2, 4))
        guess = {a.name: a.as_prediction(*a.parse(labels[a.name])) for a in ATTRIBUTES}
        attributes.append({name: v + rng.normal(0, 1, v.shape) for name, v in guess.items()})
    picture = rng.integers(0, 255, (100, 120, 3), np.uint8)
    record = Record(picture, 120, 100, number, f"{number}.png", tuple(things))
    classes = np.array([thing.label for thing in things])
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
    evaluator.add(record, result)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    evaluator, rng = Evaluator(CATEGORIES, ATTRIBUTES), np.random.default_rng(0)
    for number in range(12):
        add_picture(evaluator, rng, number)
    rows = [{"step": i, "train/loss": 1 / (i + 1), "val/box/AP": i / 9} for i in range(10)]
    history = folder / "metrics.jsonl"
    history.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 10, "tr')
    metrics = evaluator.metrics()
    write_report("made up", evaluator, metrics, folder / "report", history=history)
    return folder / "report", metrics


@pytest.mark.parametrize("name", PICTURES)
def test_each_picture_is_there_and_shows_something(written, name):
    assert cv2.imread(str(written[0] / f"{name}.png")).std() > 3


def test_the_page_holds_the_metrics(written):
    folder, metrics = written
    text = (folder / "index.html").read_text()
    assert "://" not in text
    for name in ("box/AP", "mask/AP50", "age/mae", "head/yaw/mae", "detections/false_alarms"):
        assert f'<td>{name}</td><td class="number">{metrics[name]:.4g}</td>' in text


def test_the_table_of_classes_is_pycocotools(written):
    folder, metrics = written
    text = (folder / "index.html").read_text()
    for name in ("cat", "dog"):
        value = metrics[f"box/AP/{name}"]
        assert f'<td>{name}</td><td class="number">{value:.4g}</td>' in text


def test_a_model_that_finds_nothing_is_told_why(tmp_path):
    evaluator = Evaluator(CATEGORIES)
    picture = np.zeros((50, 50, 3), np.uint8)
    things = (Instance((5, 5, 30, 30), 1), Instance((20, 20, 40, 40), 2))
    none = np.zeros(0, np.int64)
    found = Result(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), none, (), none, 50, 50)
    evaluator.add(Record(picture, 50, 50, 1, "a.png", things), found)
    write_report("nothing", evaluator, evaluator.metrics(), tmp_path)
    text = (tmp_path / "index.html").read_text()
    assert "box AP of cat: nothing is found at all" in text
    assert (tmp_path / "worst.png").is_file()
