"""Tests of the evaluation of a face model: groups, prediction intervals and the model card."""

import json
import re

import numpy as np
import pytest
import scripts
from data.readers.faces.test_utkface import save, texture
from mistakes import check_names
from scenes import draw_variables

from mtl_jax.config.overrides import load_config_file
from mtl_jax.config.resolve import resolve
from mtl_jax.data.records import Category
from mtl_jax.runs.initial import variable_shapes
from mtl_jax.runs.saving import save_run
from mtl_jax.runs.setup import Setup

CONFIG = str(scripts.ROOT / "configs/maskmtl_utkface.py:tiny")
GROUPS = "--config.eval.groups=(('age',10.0),('gender',0),('race',0.0),('masked',0.0))"


def make_run(workdir):
    """Save a run with random weights and return its folder."""
    setup = Setup.build(resolve(load_config_file(CONFIG)), [Category(1, "face")])
    save_run(workdir, setup, draw_variables(variable_shapes(setup)))
    return workdir


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people")
    rng = np.random.default_rng(0)
    for i in range(60):
        age, gender, race = rng.integers(1, 90), i % 2, i % 5
        save(folder / "utkface", f"{age}_{gender}_{race}_{20170109000000000 + i}.jpg", texture(i))
    return make_run(folder / "run")


def evaluate(run, *arguments):
    data = f"--config.data.path={run.parent / 'utkface'}"
    done = scripts.call("evaluate", "--workdir", run, "--step", "latest", data, *arguments)
    return done


def test_a_model_of_faces_is_measured_by_group(run):
    limits = "--config.eval.limits=(('age',5.0),)"
    masks = "--config.data.sources=({'masks':0.5},)"
    coverage = "--config.eval.coverage=0.6"
    done = evaluate(run, GROUPS, limits, masks, coverage, "--name", "half")
    assert done.code == 0, done
    folder = run / "evaluation/half"
    metrics = json.loads((folder / "metrics.json").read_text())
    for by, groups in (("gender", ("male", "female")), ("masked", ("no", "yes"))):
        counts = [metrics[f"age/by_{by}/{group}/labelled"] for group in groups]
        assert min(counts) > 0
        assert sum(counts) == metrics["age/labelled"]
        errors = [metrics[f"age/by_{by}/{group}/mae"] for group in groups]
        assert np.dot(counts, errors) / sum(counts) == pytest.approx(metrics["age/mae"])
    assert metrics["age/interval/calibrated_on"] == 12  # a fifth of the faces, split val
    width = metrics["age/interval/half_width"]
    for entry in json.loads((folder / "predictions.json").read_text()):
        low, high = entry["attributes"]["age"]["interval"]
        assert 0 < high - low <= 2 * width + 1e-3
    val = evaluate(
        run,
        masks,
        "--split",
        "val",
        "--config.eval.coverage=0.6",
        f"--config.eval.limits=(('age',{width}),)",
    )
    assert val.code == 0, val
    # Coverage 0.6 of 12 + 1 ranks is rank 8: the interval contains 8 of the 12 faces of val.
    on_val = json.loads((run / "evaluation/val/metrics.json").read_text())
    assert on_val[f"age/cs{width:g}"] == pytest.approx(8 / 12)
    assert not any("interval" in name for name in on_val)
    card = (folder / "model_card.md").read_text()
    check_names(card, "utkface", "https://susanqq.github.io/UTKFace")
    (line,) = (line for line in card.splitlines() if "50%" in line)  # 50 % of the faces wear masks
    check_names(line, "train", "val", "test", "external")
    numbers = r"\| labelled \| misses \| mae \| std \| cs5 \| interval/coverage \|"
    assert re.search(rf"^\| age\b.* masked {numbers}$", card, re.MULTILINE)
    assert re.search(r"\bage\b[^<]*\brace\b", (folder / "report/index.html").read_text())


MISTAKES = {  # an invalid option, and parts of the message
    "--config.eval.groups=(('age',0.0),)": ("config.eval.groups", "'age'"),
    "--config.eval.groups=(('sex',0.0),)": ("config.eval.groups", "'sex'", "age", "gender", "race"),
    "--config.eval.groups=('age',10.0)": ("eval.groups", "'age'"),
    "--config.eval.limits=(('gender',5.0),)": ("config.eval.limits", "'gender'"),
    "--config.eval.coverage=1.5": ("eval.coverage", 1.5, 0, 1),
}


@pytest.mark.parametrize("argument", MISTAKES)
def test_an_invalid_option_is_one_line(run, argument):
    scripts.mistake(evaluate(run, argument), *MISTAKES[argument])


def test_an_invalid_option_is_reported_before_training(run, tmp_path):
    data = f"--config.data.path={run.parent / 'utkface'}"
    wrong = "--config.eval.groups=(('sex',0.0),)"
    done = scripts.call("train", "--config", CONFIG, "--workdir", tmp_path / "new", data, wrong)
    scripts.mistake(done, *MISTAKES[wrong])
    assert not (tmp_path / "new/config.json").exists()
