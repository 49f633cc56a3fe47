"""The parameters that a stage trains."""

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from mistakes import refused
from training.toy import init

from mtl_jax.training.stages import merge, partition, trainable


@pytest.fixture(scope="module")
def params():
    return init(0)["params"]


def _modules(mask, on=True):
    """Return the modules that are on (or off) in full, with the backbone's listed one by one."""
    flat = flatten_dict(mask, sep="/")
    names = {"/".join(p.split("/")[: 2 if p.startswith("backbone") else 1]): p for p in flat}
    chosen = {n for n in names if all(v == on for p, v in flat.items() if p.startswith(n + "/"))}
    return {name.removeprefix("backbone/") for name in chosen}


HEADS = {"fpn", "class_logits", "boxes"}


@pytest.mark.parametrize(
    ("layers", "backbone"),
    [
        ("heads", set()),
        ("5+", {"stage5"}),
        ("4+", {"stage4", "stage5"}),
        ("3+", {"stage3", "stage4", "stage5"}),
        ("all", {"stem", "stage2", "stage3", "stage4", "stage5"}),
    ],
)
def test_matterports_names(params, layers, backbone):
    mask = trainable(params, layers)
    everything = {"stem", "stage2", "stage3", "stage4", "stage5"} | HEADS
    assert _modules(mask) == backbone | HEADS
    assert _modules(mask, on=False) == everything - backbone - HEADS


def test_a_pattern_is_searched_for_in_the_path(params):
    flat = flatten_dict(trainable(params, "^fpn|stem/conv"), sep="/")
    assert {path for path, on in flat.items() if on} == {
        "fpn/kernel",
        "fpn/bias",
        "backbone/stem/conv1/kernel",
        "backbone/stem/conv1/bias",
    }


def test_a_pattern_without_a_match_names_the_closest(params):
    with refused("layers", "backbone/stag5/", "backbone/stage5"):
        trainable(params, "backbone/stag5/")
    with refused("layers", "clas_logits", "class_logits"):
        trainable(params, "clas_logits")
    with refused("layers", "fpn("):
        trainable(params, "fpn(")


def test_layers_missing_in_the_model_are_refused(params):
    with refused("layers", "5+"):
        trainable({"fpn": params["fpn"]}, "5+")
    with refused("layers", "heads"):
        trainable({"backbone": params["backbone"]}, "heads")


def test_partition_and_merge_are_inverse(params):
    params = {**params, "pool": {}}
    on, off = partition(params, trainable(params, "4+"))
    assert "stem" not in on["backbone"]
    assert "stage5" not in off["backbone"]
    merged = merge(on, off)
    assert jax.tree.structure(merged) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, merged, params)
