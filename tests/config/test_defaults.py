"""Tests that every field of a config is a field of an option dataclass, and is used."""

import json
import re
from dataclasses import fields, is_dataclass

import pytest
import scripts
from mistakes import refused

from mtl_jax.config.defaults import FAMILIES, get_default, get_matterport
from mtl_jax.config.options.data import AugmentOptions, DataOptions, SourceOptions
from mtl_jax.config.options.evaluation import EvalOptions
from mtl_jax.config.options.mask_rcnn import LossWeights
from mtl_jax.config.options.training import InitOptions, LoopOptions, OptimizerOptions, Stage
from mtl_jax.config.renamed import RENAMED
from mtl_jax.config.resolve import from_stored, resolve
from mtl_jax.convert.torchvision_names import arch_options
from mtl_jax.data.records import Category
from mtl_jax.runs.setup import Setup

DEFAULTS = {
    "data": (SourceOptions, DataOptions),
    "init": (InitOptions,),
    "optimizer": (OptimizerOptions,),
    "train": (LoopOptions,),
    "eval": (EvalOptions,),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_field_of_a_default_config_is_an_option(family):
    config = get_default(family)
    assert set(config) == {*DEFAULTS, "family", "model", "attributes", "stages"}
    for group, kinds in DEFAULTS.items():
        compare(config[group], kinds, group)
    compare(config.model, (FAMILIES[family],), "model")
    assert config.family == family
    assert resolve_default(family).stages == (Stage(),)


def resolve_default(family):
    config = get_default(family)
    config.data.sources = (dict(format="shapes"),)
    return resolve(config)


def compare(group, kinds, name):
    options = [field for kind in kinds for field in fields(kind)]
    old_names = {old.rpartition(".")[2] for old in RENAMED if old.rpartition(".")[0] == name}
    assert set(group) == {field.name for field in options} | old_names, name
    for field in options:
        if is_dataclass(field.type):
            compare(group[field.name], (field.type,), f"{name}.{field.name}")


def test_every_option_is_used():
    """Check that the package uses every option; an unused option would be silently ignored."""
    text = "\n".join(path.read_text() for path in (scripts.ROOT / "mtl_jax").rglob("*.py"))
    unread = [name for name in set(option_names()) if not re.search(rf"\.{name}\b", text)]
    # Looked up by name: augmentations and loss terms.
    looked_up = {field.name for kind in (AugmentOptions, LossWeights) for field in fields(kind)}
    assert set(unread) <= looked_up


def option_names():
    groups = [kind for kinds in DEFAULTS.values() for kind in kinds] + [Stage, *FAMILIES.values()]
    while groups:
        for field in fields(groups.pop()):
            if is_dataclass(field.type):
                groups.append(field.type)
            else:
                yield field.name


def test_an_unknown_family_is_one_line():
    with refused("config.family", "'mask_mlt'", *FAMILIES):
        get_default("mask_mlt")


@pytest.mark.parametrize("family", ["mask_mtl", "hyperface"])
def test_the_fields_of_another_family_are_one_line(family):
    config = get_default(family)
    config.family = "mask_rcnn"
    missing = min(set(get_default("mask_rcnn").model) - set(config.model))
    with refused("config.model", repr(missing), "get_default('mask_rcnn')"):
        Setup.build(resolve(config), [Category(1, "face")])


def test_a_checkpoint_without_a_family_is_a_mask_rcnn():
    stored = json.loads(json.dumps({"config": get_default().to_dict(), "categories": []}))
    del stored["config"]["family"]
    assert Setup.from_metadata(stored).experiment.family == "mask_rcnn"


def test_new_configs_have_exact_masks_and_stored_ones_keep_theirs():
    def exact(experiment):
        return experiment.model.roi.aligned, experiment.model.mask_head.exact

    assert exact(resolve_default("mask_rcnn")) == (True, True)
    stored = get_default().to_dict()
    del stored["model"]["roi"]["aligned"], stored["model"]["mask_head"]["exact"]
    assert exact(from_stored(stored)) == (False, False)
    assert exact(resolve(get_matterport())) == (False, False)
    assert arch_options("maskrcnn_resnet50_fpn").aligned_masks is False
    assert arch_options("resnet50").aligned_masks is True


def test_functions_of_mask_rcnn_refuse_other_families_in_one_line():
    assert resolve_default("mask_rcnn").mask_rcnn("RUN: torchvision's form").rpn.convs == 1
    with refused("RUN: torchvision's form", "mask_rcnn", "mask_mtl"):
        resolve_default("mask_mtl").mask_rcnn("RUN: torchvision's form")
