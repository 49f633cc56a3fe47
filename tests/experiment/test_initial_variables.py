"""Tests of initial weights from a run with other classes and attributes."""

import json
import re

import jax
import numpy as np
import pytest
import scripts
from mistakes import refused
from small_run import ARGUMENTS, CONFIG, lines, variables

from mtl_jax.config.overrides import load_config_file, override
from mtl_jax.config.resolve import resolve
from mtl_jax.data.records import Category
from mtl_jax.runs.initial import initial_variables
from mtl_jax.runs.setup import Setup
from mtl_jax.training.checkpoint import Checkpointer


@pytest.mark.slow
def test_outputs_of_other_classes_and_attributes_are_not_loaded(trained, capsys):
    config = load_config_file(CONFIG)
    override(config, (*ARGUMENTS, f"--config.init.checkpoint={trained.folder}"))
    override(config, ["--config.attributes.gender.classes=('a','b','c')"])
    override(config, ["--config.attributes.age.range=(0,50)", "--config.attributes.head.weight=9"])
    setup = Setup.build(resolve(config), [Category(1, "cat"), Category(2, "dog")])
    started = initial_variables(setup, seed=0)
    table = capsys.readouterr().out
    leaves = jax.tree_util.tree_leaves_with_path(started)
    ours = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
    theirs = variables(trained.folder, "best")
    same = {name for name in ours if np.array_equal(ours[name], theirs[name])}
    fresh = ("class_logits", "box_deltas", "mask_logits", "gender_output", "age_output")
    for name in ours:
        # Biases start at zero, and can still be zero in the run.
        if any(word in name for word in fresh):
            assert name not in same or not ours[name].any(), name
        else:
            assert name in same, name
    for word in ("class_logits", "box_deltas", "mask_head", "gender_output", "age_output"):
        assert any(word in row and "fresh" in row for row in table.splitlines()), table
    assert "copied" in next(row for row in table.splitlines() if "backbone" in row)
    assert not any("head_output" in row and "fresh" in row for row in table.splitlines())


@pytest.mark.slow
def test_a_model_of_heatmaps_is_trained_and_another_starts_from_it(tmp_path, capsys):
    run = tmp_path / "run"
    short = ("--config.stages[0].steps=1", "--config.stages[1].steps=1")
    short += ("--config.model.roi.samples=16", "--config.model.detection.max_detections=10")
    arguments = (*ARGUMENTS, *short, "--config.attributes.face.loss=heatmap")
    done = scripts.call("train", "--config", CONFIG, "--workdir", run, *arguments)
    assert done.code == 0, done
    for loss in ("train/attribute/face", "val/loss/attribute/face"):
        assert np.isfinite([line[loss] for line in lines(run) if loss in line]).all()
    assert lines(run)[-1]["val/face/nme"] > 0
    config = load_config_file(CONFIG)
    override(config, (*arguments, f"--config.init.checkpoint={run}"))
    override(config, ["--config.attributes.face.points=('nose','chin')"])
    override(config, ["--config.attributes.face.flip=()"])
    setup = Setup.build(resolve(config), [Category(1, "head")])
    capsys.readouterr()
    started = initial_variables(setup, seed=0)["params"]["dense_head_face"]
    theirs = Checkpointer(run / "checkpoints").restore_variables("best")["params"]
    table = capsys.readouterr().out.splitlines()
    assert any("dense_head_face/deconv" in row and "fresh" in row for row in table), table
    for name, leaves in theirs["dense_head_face"].items():
        if name != "deconv":
            np.testing.assert_array_equal(started[name]["kernel"], leaves["kernel"])
    assert started["deconv"]["kernel"].shape[2:] == (512, 2)


def test_output_layers_whose_meaning_changed_are_found():
    config = load_config_file(CONFIG)
    heads = (Category(1, "head"),)
    setup = Setup.build(resolve(config), heads)
    stored = json.loads(json.dumps(setup.metadata))
    assert setup.changed_outputs(stored) == []
    other = Setup.build(resolve(config), (Category(1, "face"),))
    assert other.changed_outputs(stored) == [
        "/(class_logits|box_deltas)/",
        "/mask_logits",
    ]
    override(config, ["--config.attributes.age.range=(0,50)", "--config.attributes.head.weight=2"])
    setup = Setup.build(resolve(config), heads)
    (pattern,) = setup.changed_outputs(stored)
    outputs = ("attribute_head/age_output/bias", "heads/visible_age_output/bias")
    for path in (*outputs, "dense_head_age/deconv/bias"):
        assert re.search(pattern, f"params/{path}")
    for path in ("attribute_head/head_output/bias", "dense_head_age/conv1/bias"):
        assert not re.search(pattern, f"params/{path}")


def test_fields_that_change_what_weights_compute_are_found():
    config = load_config_file(CONFIG)
    setup = Setup.build(resolve(config), (Category(1, "head"),))
    stored = json.loads(json.dumps(setup.metadata))
    assert setup.changed_computation(stored) == []
    model = stored["config"]["model"]
    del model["mask_head"]["exact"]
    model["roi"]["aligned"], model["backbone"]["norm_eps"] = False, 0.0
    assert setup.changed_computation(stored) == [
        "--config.model.backbone.norm_eps=0.0",
        "--config.model.roi.aligned=False",
        "--config.model.mask_head.exact=False",
    ]
    with refused("the checkpoint"):
        setup.changed_computation({"config": 3})


def test_an_unknown_checkpoint_is_told_before_anything_is_compiled(monkeypatch):
    config = load_config_file(CONFIG)
    override(config, ["--config.init.checkpoint=resnet5"])
    setup = Setup.build(resolve(config), (Category(1, "head"),))
    monkeypatch.setattr(jax, "jit", lambda *arguments: pytest.fail("compiles"))
    with refused("config.init.checkpoint", "resnet5", "resnet50"):
        initial_variables(setup, seed=0)
