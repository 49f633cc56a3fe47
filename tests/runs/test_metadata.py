"""Packed models whose metadata or arrays are broken."""

import copy
import json
import random

import pytest
import scripts
from mistakes import check_names, refused
from scenes import draw_variables

from mtl_jax.config.overrides import load_config_file
from mtl_jax.config.resolve import resolve
from mtl_jax.data.records import Category
from mtl_jax.errors import UserError
from mtl_jax.runs.initial import variable_shapes
from mtl_jax.runs.loading import load_run
from mtl_jax.runs.setup import Setup
from mtl_jax.training.single_file import write_pack

JUNK = (None, -1, 0, 1e308, 10**30, "", "x", [], {}, [[]], True, float("nan"))


@pytest.fixture(scope="module")
def setup() -> Setup:
    config = load_config_file(str(scripts.ROOT / "configs/mtl_synthetic.py:tiny"))
    return Setup.build(resolve(config), [Category(7, "head")])


def places(value: object, path: tuple = ()) -> list[tuple]:
    items = value.items() if isinstance(value, dict) else []
    items = enumerate(value) if isinstance(value, list) else items
    return [p for key, item in items for p in ((*path, key), *places(item, (*path, key)))]


def test_mutated_metadata_is_refused_or_a_model(setup):
    stored = json.loads(json.dumps(setup.metadata))
    rng, refusals = random.Random(0), 0
    for path in rng.sample(places(stored), 60):
        changed = copy.deepcopy(stored)
        parent = changed
        for key in path[:-1]:
            parent = parent[key]
        parent[path[-1]] = rng.choice(JUNK)
        try:
            Setup.from_metadata(changed, where="a.npz")
        except UserError:
            refusals += 1
    assert 60 > refusals > 20


@pytest.mark.parametrize("stored", [{}, {"config": []}, {"config": {}, "categories": [{"id": 1}]}])
def test_metadata_of_another_kind_names_the_file(stored):
    with refused("a.npz"):
        Setup.from_metadata(stored, where="a.npz")


def test_changed_outputs_of_broken_metadata_are_one_line(setup):
    with refused("checkpoint"):
        setup.changed_outputs({})


@pytest.mark.parametrize("change", ["a missing array", "a number of classes"])
def test_arrays_that_are_not_those_of_the_model_are_one_line(setup, tmp_path, change):
    variables = draw_variables(variable_shapes(setup))
    metadata = setup.metadata
    if change == "a missing array":
        del variables["params"]["box_head"]["class_logits"]["bias"]
    else:
        metadata = {**metadata, "categories": [*metadata["categories"], {"id": 8, "name": "cat"}]}
    write_pack(tmp_path / "model.npz", metadata, variables)
    with pytest.raises(UserError) as caught:
        load_run(tmp_path / "model.npz")
    check_names(caught.value, tmp_path / "model.npz")
    assert "box_head" in str(caught.value)
