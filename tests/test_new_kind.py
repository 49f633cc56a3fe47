"""Training, evaluation, report, CSV and data page with a kind of attribute that consists of two
files, toy_kind/hour.py and hour_head.py.
"""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import scripts
from toy_kind.clocks import Clocks
from toy_kind.hour import Hour
from toy_kind.hour_head import HourHead

from mtl_jax.attributes.declarations import KINDS
from mtl_jax.images.decode import write_png
from mtl_jax.models.attribute_heads.heads import HEADS
from mtl_jax.visualize.__main__ import main as visualize

CONFIG = f"""
from mtl_jax.config.defaults import get_chips

VARIANTS = ("",)


def get_config(variant):
    config = get_chips(side=32, channels=3)
    config.attributes = dict(time=dict(kind="hour"))
    source = dict(format="python", path={str(Path(__file__).parent / "toy_kind/clocks.py")!r})
    config.data.sources = tuple(
        dict(source, name=split, split=split, options=dict(length=length, seed=seed))
        for seed, (split, length) in enumerate((("train", 160), ("val", 16), ("test", 40)))
    )
    config.model.convs.features = (8, 16)
    config.model.head.update(features=(32,), dropout=0.0)
    config.data.augment.flip = 0.0
    config.optimizer.update(learning_rate=3e-3, warmup_steps=10)
    config.stages = (dict(layers="all", steps=150),)
    config.train.update(batch_size=16, eval_every=0, checkpoint_every=0)
    config.eval.update(best_metric="time/mae", groups=(), limits=(), coverage=0.0)
    return config
"""


@pytest.fixture
def hours(monkeypatch):
    monkeypatch.setitem(KINDS, "hour", Hour)
    monkeypatch.setitem(HEADS, Hour, HourHead)


@pytest.mark.slow
@pytest.mark.usefixtures("hours")
def test_a_kind_in_two_files_works_in_every_command(tmp_path):
    config, run = tmp_path / "clocks.py", tmp_path / "run"
    config.write_text(CONFIG)
    done = scripts.call("train", "--config", config, "--workdir", run)
    assert done.code == 0, done
    done = scripts.call("evaluate", "--workdir", run, "--split", "test", "--baseline")
    assert done.code == 0, done
    metrics = json.loads((run / "evaluation/test/metrics.json").read_text())
    assert metrics["time/mae"] < 2  # the best constant: about 6
    assert metrics["time/labelled"] == 30
    assert "time: mean error" in (run / "evaluation/test/report/index.html").read_text()
    clocks = Clocks(3, 9)
    for i in range(3):
        write_png(tmp_path / f"images/{i}.png", clocks[i].image)
    output = tmp_path / "found"
    given = ("--workdir", run, "--input", tmp_path / "images", "--output", output, "--csv")
    assert scripts.call("predict", *given).code == 0
    with (output / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    found = json.loads((output / "predictions.json").read_text())
    assert [float(row["time"]) for row in rows] == [e["attributes"]["time"]["value"] for e in found]
    arguments = ["data", "--config", str(config), "--output", str(tmp_path / "page")]
    assert visualize(arguments) == 0
    assert "Labels of time" in (tmp_path / "page/index.html").read_text()
    assert np.isfinite(list(metrics.values())).all()
