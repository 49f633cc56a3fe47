"""The page of an evaluation, for a made-up model on generated images."""

import json
import re

import cv2
import jax
import numpy as np
import pytest
from matplotlib.figure import Figure
from mistakes import check_faults

from mtl_jax.attributes.base import parse_labels
from mtl_jax.attributes.declarations import from_config
from mtl_jax.data.records import Category, Instance, Record
from mtl_jax.evals.accumulate import Evaluator
from mtl_jax.evals.error_analysis import ErrorAnalysis
from mtl_jax.results import Result
from mtl_jax.visualize.drawing import plots
from mtl_jax.visualize.report.evaluation import write_report

IMAGES = (
    "box_curves",
    "mask_curves",
    "confusion",
    "overlaps",
    "calibration",
    "training",
    "worst",
)
IMAGES += ("overlap_grid", "attribute_age", "attribute_sex", "attribute_size", "attribute_face")
IMAGES += ("cumulative_errors", "successes", "failures", "groups_age", "groups_head")
IMAGES += tuple(f"attribute_head.{angle}" for angle in ("yaw", "pitch", "roll"))


@pytest.mark.parametrize("name", IMAGES)
def test_each_image_exists_and_is_not_blank(report, name):
    assert cv2.imread(str(report[0] / f"{name}.png")).std() > 3


def test_the_page_contains_the_metrics(report):
    folder, metrics = report
    text = (folder / "index.html").read_text()
    assert "://" not in text
    for name in ("box/AP", "mask/AP50", "age/mae", "head/yaw/mae", "detections/false_alarms"):
        assert f'<td>{name}</td><td class="number">{metrics[name]:.4g}</td>' in text


def test_errors_are_in_tables_by_group(report):
    folder, metrics = report
    text = (folder / "index.html").read_text()
    for name, group in (("age", "age"), ("age", "sex"), ("face", "sex"), ("sex", "age")):
        assert re.search(rf"<th>{name}\b[^<]*\b{group}</th>", text)
    for group in ("by_age/0 to 10", "by_age/10 to 20", "by_sex/f", "by_sex/m"):
        labelled, misses, mae, std, share = (
            metrics[f"age/{group}/{name}"] for name in ("labelled", "misses", "mae", "std", "cs1")
        )
        cells = [f"{labelled:.0f}", f"{misses:.0f}", *(f"{v:.4g}" for v in (mae, std, share))]
        row = "".join(f'<td class="number">{cell}</td>' for cell in cells)
        assert f"<tr><td>{group.partition('/')[2]}</td>{row}</tr>" in text


def test_the_page_of_a_model_of_whole_images_has_no_results_on_boxes(tmp_path):
    sex = from_config({"sex": dict(kind="categorical", classes=("f", "m"))})
    categories = (Category(1, "face"),)
    evaluator, analysis = Evaluator(categories, sex), ErrorAnalysis(categories)
    image = np.full((50, 50, 3), 90, np.uint8)
    instance = Instance((0, 0, 50, 50), 1, attributes=parse_labels(sex, {"sex": "f"}))
    one = np.ones(1, np.int64)
    found = Result(
        np.array([[0, 0, 50, 50]], np.float32),
        np.ones(1, np.float32),
        one,
        ("face",),
        one,
        50,
        50,
        attributes={"sex": np.array([[0.9, 0.1]])},
        declared=sex,
    )
    record = Record(image, 50, 50, 1, "a.png", (instance,))
    evaluator.add(record, found)
    analysis.add(record, found)
    metrics = evaluator.metrics()
    assert "box/AP" in metrics
    history = tmp_path / "metrics.jsonl"
    line = {"step": 1, "train/attribute/sex": 0.7, "val/sex/accuracy": 1.0, "val/box/AP": 1.0}
    history.write_text(json.dumps(line) + "\n")
    write_report("a", evaluator, analysis, metrics, tmp_path, history=history, has_boxes=False)
    text = (tmp_path / "index.html").read_text()
    assert "<td>sex/accuracy</td>" in text
    for other in ("box/AP", "false_alarms", "<p>"):
        assert other not in text
    # Metrics, the attribute, its best and worst predictions, the training history.
    assert text.count("<h2>") == 4
    assert text.count("<figure>") == 4
    names = {path.stem for path in tmp_path.glob("*.png")}
    assert names == {"attribute_sex", "successes", "failures", "training"}


def test_losses_of_training_and_validation_share_a_plot(tmp_path, monkeypatch):
    one, two = 0.5, 0.6
    row = {
        "step": 1,
        "val/box/AP": one,
        "train/loss": one,
        "train/attribute/age": one,
        "train/balance/attribute/age": one,
        "train/balance/attribute/sex": two,
        "train/grad_norm": one,
        "val/loss/loss": two,
        "val/loss/attribute/age": two,
        "val/age/labelled": two,
    }
    (tmp_path / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    panels = {}

    def draw(cells, *_):
        panels.clear()  # those of training are drawn last
        for title, draw_on in cells:
            axes = Figure().subplots()
            draw_on(axes)
            panels[title] = {line.get_label(): line.get_xydata() for line in axes.get_lines()}
        return np.zeros((9, 9, 3), np.uint8)

    monkeypatch.setattr(plots, "plots", draw)
    categories = (Category(1, "face"),)
    evaluator, analysis = Evaluator(categories), ErrorAnalysis(categories)
    history = tmp_path / "metrics.jsonl"
    write_report("a", evaluator, analysis, {"box/AP": 0.5}, tmp_path, history=history)
    assert jax.tree.map(np.ndarray.tolist, panels) == {
        "loss": {"train": [[1, one]], "val": [[1, two]]},
        "loss/attribute/age": {"train": [[1, one]], "val": [[1, two]]},
        "balance": {"age": [[1, one]], "sex": [[1, two]]},
        "val/box/AP": {"val": [[1, one]]},
    }
    assert list(panels)[-1] == "val/box/AP"


def test_the_table_of_classes_is_pycocotools(report):
    folder, metrics = report
    text = (folder / "index.html").read_text()
    for name in ("cat", "dog"):
        value = metrics[f"box/AP/{name}"]
        assert f'<td>{name}</td><td class="number">{value:.4g}</td>' in text


def test_the_page_explains_why_nothing_is_detected(tmp_path):
    categories = (Category(1, "cat"), Category(2, "dog"))
    evaluator, analysis = Evaluator(categories), ErrorAnalysis(categories)
    image = np.zeros((50, 50, 3), np.uint8)
    instances = (Instance((5, 5, 30, 30), 1), Instance((20, 20, 40, 40), 2))
    none = np.zeros(0, np.int64)
    found = Result(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), none, (), none, 50, 50)
    record = Record(image, 50, 50, 1, "a.png", instances)
    evaluator.add(record, found)
    analysis.add(record, found)
    write_report("nothing", evaluator, analysis, evaluator.metrics(), tmp_path)
    text = (tmp_path / "index.html").read_text()
    option = "model.detection.score_threshold"
    faults = re.findall("<li>(.*?)</li>", text)
    check_faults(faults, ("box", "AP", "cat", option), ("box", "AP", "dog", option))
    assert (tmp_path / "worst.png").is_file()
