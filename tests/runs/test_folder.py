"""Tests of run folders: locks, and the comparison of a config with that of the run."""

import re

import pytest
import scripts
from mistakes import check_faults, refused
from scenes import draw_variables

from mtl_jax.config.blocks import blocks_of
from mtl_jax.config.overrides import load_config_file, override
from mtl_jax.config.resolve import resolve
from mtl_jax.data.records import Category
from mtl_jax.errors import UserError
from mtl_jax.io.atomic import write_json
from mtl_jax.runs.folder import differing_fields, lock_run, prepare_folder, read_config
from mtl_jax.runs.initial import variable_shapes
from mtl_jax.runs.saving import save_run
from mtl_jax.runs.setup import Setup

CONFIG = str(scripts.ROOT / "configs/mtl_synthetic.py:tiny")


def check_changes(faults, *expected):
    """Assert that each fault names a field, its value in the run and its new value, in order."""
    faults = list(faults)
    check_faults(faults, *expected)
    for fault, (field, there, now) in zip(faults, expected, strict=True):
        assert re.match(rf"{re.escape(field)}\W.*\b{there}\b.*\b{now}\b", fault), fault


def test_the_fields_that_differ_are_named():
    one, two = load_config_file(CONFIG), load_config_file(CONFIG)
    assert list(differing_fields(one, two)) == []
    override(two, ["--config.train.log_every=9", "--config.stages[1].steps=9"])
    stages = blocks_of(two.stages).values()
    given = (*stages, {"layers": "5+", "steps": 3, "learning_rate": 0.1})
    override(two, [f"--config.stages={given}"])
    assert list(differing_fields(one, two)) == []
    assert len(list(differing_fields(two, one))) == 2  # layers and learning rate of a stage less
    override(two, ["--config.data.sources[0].length=3", "--config.stages[0].learning_rate=0.1"])
    check_changes(
        differing_fields(one, two),
        ("data.sources[0].length", 2000, 3),
        ("stages[0].learning_rate", 0.0, 0.1),
    )


def test_keys_that_json_converts_to_strings_do_not_differ(tmp_path):
    config = load_config_file(CONFIG)
    with config.unlocked():
        config.data.attribute_keys = {"smile": ("mouth", {0: "none", True: "broad"})}
    write_json(tmp_path / "config.json", config.to_dict())
    assert list(differing_fields(read_config(tmp_path / "config.json"), config)) == []


def test_options_of_unused_loss_balancing_can_change():
    one, two = load_config_file(CONFIG), load_config_file(CONFIG)
    override(two, ["--config.train.balancing.rate=0.5"])
    assert list(differing_fields(one, two)) == []
    override(two, ["--config.train.balance=gradnorm"])
    override(one, ["--config.train.balance=gradnorm"])
    check_changes(differing_fields(one, two), ("train.balancing.rate", 0.025, 0.5))


def test_missing_fields_of_an_earlier_version_have_their_defaults():
    old, new = load_config_file(CONFIG), load_config_file(CONFIG)
    with old.unlocked():
        del old.train.ema, old.eval.groups
    override(new, ["--config.eval.groups=(('age',10.0),)", "--config.eval.coverage=0.9"])
    assert list(differing_fields(old, new)) == []
    override(new, ["--config.train.ema=0.9"])
    check_changes(differing_fields(old, new), ("train.ema", 0.0, 0.9))


def test_a_run_without_exact_masks_is_not_resumed_with_them():
    old, new = load_config_file(CONFIG), load_config_file(CONFIG)
    with old.unlocked():
        del old.model.mask_head.exact
    old.model.roi.aligned = False
    fields = list(differing_fields(old, new))
    check_changes(fields[:1], ("model.mask_head.exact", False, True))
    check_changes(fields[1:], ("model.roi.aligned", False, True))
    override(new, ["--config.model.roi.aligned=False", "--config.model.mask_head.exact=False"])
    assert list(differing_fields(old, new)) == []


def test_the_steps_of_a_finished_stage_cannot_change():
    one, two = load_config_file(CONFIG), load_config_file(CONFIG)
    override(one, ["--config.stages[0].steps=4", "--config.stages[1].steps=6"])
    override(two, ["--config.stages[0].steps=6", "--config.stages[1].steps=6"])
    assert list(differing_fields(one, two, 4)) == []  # the first stage is not finished
    check_changes(differing_fields(one, two, 5), ("stages[0].steps", 4, 6))


def test_converted_weights_cannot_be_resumed(tmp_path):
    config = load_config_file(CONFIG)
    setup = Setup.build(resolve(config), [Category(1, "head")])
    save_run(tmp_path, setup, draw_variables(variable_shapes(setup)))
    with refused("--workdir", f"--config.init.checkpoint={tmp_path}"):
        prepare_folder(tmp_path, resolve(config))


def test_files_of_a_run_without_a_checkpoint_are_ignored(tmp_path):
    config = load_config_file(CONFIG)
    write_json(tmp_path / "config.json", config.to_dict())
    (tmp_path / "splits.json").write_text("{}")
    assert prepare_folder(tmp_path, resolve(config)) == 0
    assert (tmp_path / "splits.json").exists()
    override(config, ["--config.train.seed=3"])
    assert prepare_folder(tmp_path, resolve(config)) == 0
    assert not (tmp_path / "splits.json").exists()
    (tmp_path / "config.json").write_text("{")
    with refused(tmp_path / "config.json"):
        prepare_folder(tmp_path, resolve(config))


def test_two_trainings_do_not_write_in_one_folder(tmp_path):
    run = tmp_path / "run"
    with lock_run(run):
        with refused(run, "--workdir"), lock_run(run):
            pass
        (run / "config.json").touch()  # the folder is the same as before
        with lock_run(run, alone=False):  # another host of the same training
            pass
    with lock_run(run):
        pass
    assert [path.name for path in run.iterdir()] == ["config.json"]


def test_a_refused_run_leaves_no_folder(tmp_path):
    with pytest.raises(UserError, match="refused"), lock_run(tmp_path / "run"):
        raise UserError("refused")
    assert not (tmp_path / "run").exists()
    (tmp_path / "file").touch()
    with refused(tmp_path / "file/run"):
        lock_run(tmp_path / "file/run").__enter__()
