"""What a run and its packed model say of the data, the licences and the metrics."""

import json
import shutil

import numpy as np
import pytest
import scripts
from mistakes import refused
from scenes import draw_variables

from mtl_jax.config.overrides import load_config_file, override
from mtl_jax.config.resolve import resolve
from mtl_jax.convert.__main__ import main as convert
from mtl_jax.data.datasets.sources import open_sources
from mtl_jax.data.records import Category
from mtl_jax.runs import origin
from mtl_jax.runs.initial import variable_shapes
from mtl_jax.runs.saving import save_run
from mtl_jax.runs.setup import Setup
from mtl_jax.training.single_file import write_pack

CONFIG = str(scripts.ROOT / "configs/mtl_synthetic.py:tiny")


def make_setup(*arguments):
    config = load_config_file(CONFIG)
    override(config, list(arguments))
    return Setup.build(resolve(config), [Category(1, "head")])


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return the folder of a run of step 0."""
    setup, folder = make_setup(), tmp_path_factory.mktemp("saved") / "run"
    save_run(folder, setup, draw_variables(variable_shapes(setup)))
    return folder


@pytest.fixture
def run(saved, tmp_path):
    """Return a copy of the run that was evaluated."""
    folder = shutil.copytree(saved, tmp_path / "run")
    for name, checkpoint in (("test", "step 0"), ("old", "step 7"), ("broken", "step 0")):
        evaluation = folder / "evaluation" / name
        evaluation.mkdir(parents=True)
        stated = {"checkpoint": checkpoint, "split": name}
        (evaluation / "checkpoint.json").write_text(json.dumps(stated))
        (evaluation / "metrics.json").write_text('{"box/AP": 0.25, "age/mae": NaN, "group": "x"}')
    (folder / "evaluation/broken/metrics.json").write_text("[")
    return folder


def test_a_card_has_the_metrics_of_its_checkpoint_by_split(run):
    origin.write_origin(run, {"trained_on": [{"name": "heads"}], "metrics": "none"})
    card = origin.read_card(run)
    assert card["trained_on"] == [{"name": "heads"}]
    assert card["step"] == 0
    assert card["metrics"] == [
        {"split": "broken", "values": {}},
        {"split": "test", "values": {"box/AP": 0.25}},
    ]


@pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 100_000])
def test_a_damaged_origin_counts_as_none(run, text):
    (run / origin.NAME).write_text(text)
    assert "trained_on" not in origin.read_card(run)


def test_a_packed_model_has_the_card_and_the_licence_of_its_author(run, tmp_path, capsys):
    origin.write_origin(run, {"trained_on": [{"name": "heads", "licence": "CC0"}]})
    packed = tmp_path / "a.npz"
    assert convert(["pack", str(run), "--output", str(packed), "--licence", "CC BY 4.0"]) == 0
    capsys.readouterr()
    assert convert(["card", str(packed)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == {**origin.read_card(run), "licence": "CC BY 4.0"}
    again = tmp_path / "b.npz"
    assert convert(["pack", str(packed), "--output", str(again)]) == 0
    assert origin.read_card(again) == printed
    write_pack(packed, {"card": ["no", "object"]}, {"params": {"x": np.ones(1)}})
    assert origin.read_card(packed) == {}
    with refused(tmp_path / "absent"):
        origin.read_card(tmp_path / "absent")


def test_a_training_states_its_data_and_the_model_it_starts_from(run, tmp_path):
    experiment = make_setup("--config.data.sources[0].length=10").experiment
    training = open_sources(experiment.sources, experiment.attributes, wanted=("train",))["train"]
    found = origin.describe(experiment, training)
    assert found["started_from"] is None
    assert {data["format"] for data in found["trained_on"]} == {"synthetic"}
    assert [data["records"] for data in found["trained_on"]] == list(map(len, training.sources))
    assert all("not stated" in data["licence"] for data in found["trained_on"])

    packed = tmp_path / "a.npz"
    assert convert(["pack", str(run), "--output", str(packed)]) == 0
    for start in (run, packed):
        again = make_setup(f"--config.init.checkpoint={start}").experiment
        started = origin.describe(again, training)["started_from"]
        assert started["name"] == str(start)
        assert len(started["sha256"]) == 64
        assert started["card"]["metrics"] == origin.read_card(run)["metrics"]
