"""Transfer of another model's variables."""

import re

import jax
import numpy as np
import pytest
from mistakes import refused
from training.toy import init, make_batch, make_model

from mtl_jax.errors import UserError
from mtl_jax.layers.norm import Norm
from mtl_jax.training.transfer import format_table, transfer


def _other(num_classes=4):
    model = make_model(num_classes=num_classes)
    return jax.jit(model.init)(jax.random.key(9), make_batch(0, 0).inputs)


def _leaf(variables, path):
    for part in path.split("/"):
        variables = variables[part]
    return np.asarray(variables)


def _outcomes(rows):
    return {row.path: row.outcome for row in rows}


def _check_shapes(text, name, there, here):
    """Assert that a line of `text` names the shape in the checkpoint, then that of the model."""
    shapes = ".*".join(re.escape(str(shape)) for shape in (there, here))
    assert re.search(rf"^{name}: .*{shapes}", text, re.MULTILINE), text


def test_everything_is_copied_into_the_same_model():
    ours, theirs = init(0), _other()
    result, rows = transfer(ours, theirs)
    jax.tree.map(np.testing.assert_array_equal, result, theirs)
    assert {row.outcome for row in rows} == {"copied"}
    assert jax.tree.structure(result) == jax.tree.structure(ours)


def test_a_head_of_other_classes_stays_fresh():
    ours, theirs = init(0), _other(num_classes=7)
    result, rows = transfer(ours, theirs)
    for name, here, there in (("kernel", (16, 4), (16, 7)), ("bias", (4,), (7,))):
        path = f"params/class_logits/{name}"
        _check_shapes(_outcomes(rows)[path], "fresh", there, here)
        np.testing.assert_array_equal(_leaf(result, path), _leaf(ours, path))
    path = "params/backbone/stem/conv1/kernel"
    np.testing.assert_array_equal(_leaf(result, path), _leaf(theirs, path))
    path = "batch_stats/backbone/stem/norm1/norm/mean"
    np.testing.assert_array_equal(_leaf(result, path), _leaf(theirs, path))


def test_heads_missing_on_one_side():
    theirs = _other()
    params = dict(theirs["params"])
    params["age_output"] = params.pop("boxes")
    result, rows = transfer(init(0), {**theirs, "params": params})
    outcomes = _outcomes(rows)
    assert outcomes["params/boxes/kernel"].startswith("fresh")
    assert outcomes["params/age_output/kernel"].startswith("unused")
    assert "age_output" not in result["params"]


def test_excluded_patterns_stay_fresh():
    ours = init(0)
    result, rows = transfer(ours, _other(), exclude=("stage5", "^params/fpn/"))
    fresh = {row.path for row in rows if row.outcome.startswith("fresh")}
    assert fresh == {path for path in _outcomes(rows) if "stage5" in path or "/fpn/" in path}
    assert len(fresh) == 4 + 2 + 2
    for path in fresh:
        np.testing.assert_array_equal(_leaf(result, path), _leaf(ours, path))


def test_other_differences_are_all_listed():
    theirs = _other()
    params = dict(theirs["params"])
    params["fpn"] = {"kernel": np.zeros((8, 16)), "bias": np.zeros(3)}
    with pytest.raises(UserError) as error:
        transfer(init(0), {**theirs, "params": params})
    _check_shapes(str(error.value), "params/fpn/kernel", (8, 16), (16, 16))
    _check_shapes(str(error.value), "params/fpn/bias", (3,), (16,))


def test_frozen_and_trained_norms_are_transferred_to_each_other():
    x, inside = np.ones((2, 3, 3, 4), np.float32), np.ones((2, 3, 3), bool)
    rng = np.random.default_rng(0)
    of = {}
    for kind in ("frozen", "batch"):
        variables = Norm(kind=kind, train=False).init(jax.random.key(0), x, inside)
        of[kind] = {"params": {}, **jax.tree.map(lambda v: rng.random(v.shape), variables)}
    for ours, theirs in (("frozen", "batch"), ("batch", "frozen")):
        result, rows = transfer(of[ours], of[theirs])
        assert {row.outcome for row in rows} == {"copied"}
        expected = Norm(kind=theirs, train=False).apply(of[theirs], x, inside)
        np.testing.assert_allclose(
            Norm(kind=ours, train=False).apply(result, x, inside), expected, rtol=1e-5
        )


def test_mistakes_are_refused():
    with refused("exclude", "stage9"):
        transfer(init(0), _other(), exclude=("stage9",))
    with refused("exclude", "'('"):
        transfer(init(0), _other(), exclude=("(",))
    with refused():
        transfer(init(0), {"params": {"a": np.zeros(3)}})


def test_the_table_counts_and_names():
    theirs = _other(num_classes=7)
    _, *lines = format_table(transfer(init(0), theirs)[1]).splitlines()
    cells = [line.split(maxsplit=3) for line in lines]
    numbers = sum(x.size for x in jax.tree.leaves(theirs["params"]["backbone"]))
    assert ["params/backbone", "14", f"{numbers:,}", "copied"] in cells
    (kernel,) = [row for row in cells if row[:3] == ["params/class_logits", "1", "64"]]
    _check_shapes(kernel[3], "fresh", (16, 7), (16, 4))


def test_an_attribute_may_be_named_with_a_slash():
    variables = {
        "params": {"km/h_output": {"kernel": np.zeros((2, 3))}, "trunk": {"bias": np.zeros(4)}},
        "batch_stats": {},
    }
    loaded = jax.tree.map(np.ones_like, variables)
    result, rows = transfer(variables, loaded, exclude=["/trunk/"])
    np.testing.assert_array_equal(result["params"]["km/h_output"]["kernel"], np.ones((2, 3)))
    np.testing.assert_array_equal(result["params"]["trunk"]["bias"], np.zeros(4))
    assert _outcomes(rows)["params/km/h_output/kernel"] == "copied"
