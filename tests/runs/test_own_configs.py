"""Which runs count as the user's own, and that the run of somebody else runs no code."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import pytest
import scripts
from mistakes import refused
from scenes import draw_variables

from mtl_jax.config.options.hyperface import proposal_overrides
from mtl_jax.config.overrides import load_config_file, override
from mtl_jax.config.resolve import Experiment, from_stored, resolve
from mtl_jax.data.records import Category
from mtl_jax.experiment import open_data
from mtl_jax.inference.predictor import Predictor
from mtl_jax.runs.initial import variable_shapes
from mtl_jax.runs.loading import load_run, make_propose, read_checkpoint
from mtl_jax.runs.own_configs import is_noted, note_config
from mtl_jax.runs.saving import save_run
from mtl_jax.runs.setup import Setup
from mtl_jax.training.sharding import make_mesh
from mtl_jax.visualize.__main__ import main as visualize
from mtl_jax.visualize.model_page.inspection import Inspection

CONFIG = str(scripts.ROOT / "configs/mtl_synthetic.py:tiny")
CODE = "from pathlib import Path\nPath({!r}).touch()\n"  # has no open_source, which is a mistake


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Return the user's folder of notes, which is empty. The current folder is new, too."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state/mtl_jax/trained"


@pytest.fixture
def ran(tmp_path):
    """Write the Python file cells.py, and return the file that running it creates."""
    Path("cells.py").write_text(CODE.format(str(tmp_path / "ran")))
    return tmp_path / "ran"


def make_experiment(*arguments: str, block=None) -> Experiment:
    config = load_config_file(CONFIG)
    source = block or {"format": "python", "path": "cells.py"}
    override(config, [f"--config.data.sources=({source!r},)", *arguments])
    return resolve(config)


def stored(experiment: Experiment) -> dict:
    """Return the config as a checkpoint contains it."""
    return json.loads(json.dumps(experiment.config))


@pytest.fixture
def gift(ran):
    """Return the folder of a run of somebody else, whose config names cells.py."""
    setup = Setup.build(make_experiment(), [Category(1, "head")])
    save_run(Path("runs/gift"), setup, draw_variables(variable_shapes(setup)))
    return Path("runs/gift")


def test_a_gift_with_arrays_of_other_shapes_is_one_line(ran):
    setup = Setup.build(make_experiment(), [Category(1, "head")])
    variables = draw_variables(variable_shapes(setup))
    save_run(Path("runs/other"), setup, jax.tree.map(lambda x: x[None], variables))
    with refused("runs/other", "shape"):
        load_run("runs/other")


def test_a_config_is_noted_when_it_is_trained(ran, home):
    experiment = make_experiment()
    assert not is_noted(stored(experiment))
    done = scripts.call(
        *("train", "--config", CONFIG, "--workdir", "run"),
        "--config.data.sources=({'format':'python','path':'cells.py'},)",
    )
    scripts.mistake(done, "cells.py", "open_source")
    assert is_noted(stored(experiment))
    assert not is_noted(stored(make_experiment("--config.train.seed=3")))
    assert not is_noted({})
    assert len(list(home.iterdir())) == 1


def test_the_python_file_of_a_noted_config_may_be_moved_or_changed(ran, tmp_path, monkeypatch):
    note_config(make_experiment())
    config, text = stored(make_experiment()), Path("cells.py").read_text()
    Path("cells.py").write_text("changed")
    assert is_noted(config)
    (tmp_path / "moved").mkdir()
    monkeypatch.chdir(tmp_path / "moved")
    Path("cells.py").write_text(text)
    assert is_noted(config)
    Path("cells.py").write_text("of somebody else")  # who has the same config
    assert not is_noted(config)
    note_config(make_experiment())
    assert is_noted(config)
    monkeypatch.chdir(tmp_path / "here")
    assert is_noted(config)


def test_a_noted_config_with_data_of_somebody_else_is_not_the_users(home, tmp_path, monkeypatch):
    """A public config with a relative path, opened in a folder with other data."""
    experiment = make_experiment(block={"format": "voc", "path": "data"})
    Path("data").mkdir()
    note_config(experiment)
    for name in ("theirs", "linked"):
        (tmp_path / name).mkdir()
    (tmp_path / "theirs/data").mkdir()
    (tmp_path / "linked/data").symlink_to(tmp_path / "here/data")
    for name, own in (("here", True), ("theirs", False), ("linked", True), ("state", True)):
        monkeypatch.chdir(tmp_path / name)  # in the last one is no data
        assert is_noted(stored(experiment)) == own, name
    (note,) = home.iterdir()
    note.write_text("{}")  # of an earlier version
    monkeypatch.chdir(tmp_path / "theirs")
    assert is_noted(stored(experiment))


def test_a_damaged_note_counts_as_none(ran, home):
    note_config(make_experiment())
    (note,) = home.iterdir()
    for text in ("", "[1]", "{"):
        note.write_text(text)
        assert not is_noted(stored(make_experiment()))
    note_config(make_experiment())
    assert is_noted(stored(make_experiment()))


@pytest.mark.parametrize("state", ["file", "", "relative"])
def test_a_home_that_cannot_be_written_is_a_warning(ran, monkeypatch, tmp_path, caplog, state):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file") if state == "file" else state)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as without a home
    note_config(make_experiment())
    (record,) = caplog.records
    assert "--trust" in record.getMessage()
    assert not is_noted(stored(make_experiment()))
    assert [path.name for path in Path().iterdir()] == ["cells.py"]


def test_a_python_source_without_a_file_is_noted():
    note_config(make_experiment(block={"format": "python"}))  # opening the data reports it


def test_a_config_cannot_claim_to_be_trusted(ran):
    config = stored(make_experiment())
    config["data"]["named"] = ["cells.py"]
    assert from_stored(config).sources.named == frozenset()
    assert from_stored(config, trust=True).sources.named is None


def test_an_evaluated_gift_runs_no_code(gift, ran):
    for arguments in (("--workdir", gift), ()):
        done = scripts.call("evaluate", *arguments)
        scripts.mistake(done, "cells.py", "--trust")
    assert not ran.exists()
    done = scripts.call("evaluate", "--workdir", gift, "--trust")
    scripts.mistake(done, "cells.py", "open_source")
    assert ran.exists()


@pytest.mark.parametrize("below", ["evaluation", "evaluation/test", "proposals"])
def test_the_results_of_a_gift_are_not_written_through_a_link(gift, tmp_path, below):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/config.json").write_text("mine")
    (gift / below).parent.mkdir(exist_ok=True)
    (gift / below).symlink_to(tmp_path / "mine")
    shapes = "--config.data.sources=({'format':'shapes'},)"
    scripts.mistake(scripts.call("evaluate", "--workdir", gift, shapes), gift / below, "--trust")
    assert [(path.name, path.read_text()) for path in (tmp_path / "mine").iterdir()] == [
        ("config.json", "mine")
    ]


def test_a_run_of_the_user_is_evaluated_without_an_option(gift, ran):
    note_config(make_experiment())
    scripts.mistake(scripts.call("evaluate", "--workdir", gift), "cells.py", "open_source")
    assert ran.exists()


def test_the_page_of_a_gift_runs_no_code(gift, ran, tmp_path):
    shutil.copy(scripts.ROOT / "docs/masks.jpg", "photo.jpg")
    page = ["model", "--workdir", str(gift), "--output", str(tmp_path / "page"), "--input"]
    with refused("cells.py", "--trust"):
        visualize([*page, "test:0"])
    assert not Inspection.from_run(gift, "photo.jpg").known
    assert not ran.exists()
    with refused("cells.py", "open_source"):
        visualize([*page, "test:0", "--trust"])
    assert ran.exists()


def test_initial_weights_of_a_gift_run_no_code(gift, ran):
    metadata, _ = read_checkpoint(gift, "best")
    mine = make_experiment("--config.model.roi.samples=8", block={"format": "shapes"})
    Setup.build(mine, [Category(1, "head")]).changed_outputs(metadata)
    Predictor.from_checkpoint(gift)
    assert not ran.exists()


def test_the_run_of_an_rpn_is_a_path_of_the_config(tmp_path):
    config = load_config_file(str(scripts.ROOT / "configs/hyperface_synthetic.py:tiny"))
    elsewhere = tmp_path / "elsewhere"
    fields = proposal_overrides(str(elsewhere))
    override(config, fields)
    experiment = from_stored(stored(resolve(config)))
    setup = Setup(experiment, (Category(1, "face"),), None)  # pyright: ignore[reportArgumentType]
    with refused("config.model.detection.rpn", elsewhere, "--trust"):
        make_propose(setup, make_mesh())
    setup = replace(setup, experiment=from_stored(stored(resolve(config)), fields))
    with refused("config.model.detection.rpn", elsewhere) as caught:  # there is no run
        make_propose(setup, make_mesh())
    assert "--trust" not in str(caught.value)


def test_only_overrides_name_paths_of_a_gift(gift, ran, tmp_path):
    run = load_run(gift, overrides=["--config.data.sources[0].path=other.py"])
    Path("other.py").write_text(CODE.format(str(tmp_path / "other")))
    with refused("other.py", "open_source"):
        open_data(run.setup.experiment, "test", gift)
    block = {"format": "python", "path": "other.py"}
    run = load_run(gift, overrides=[f"--config.data.sources=({block},)"])
    with refused("other.py", "open_source"):
        open_data(run.setup.experiment, "test", gift)
    assert not ran.exists()
