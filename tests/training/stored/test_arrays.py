"""Reading of Orbax's arrays without Orbax."""

import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
import scripts

from mtl_jax.training.stored import arrays

RNG = np.random.default_rng(0)
TREES = {
    "weights": {
        "params": {
            "head": {"kernel": RNG.normal(size=(3, 5)).astype(np.float32), "bias": np.ones(5)},
            "km/h_output": {"bias": np.zeros(2, np.float32)},
            "a.b": {"c d": np.arange(4)},
        },
        "batch_stats": {"norm": {"mean": RNG.normal(size=4).astype(np.float32)}},
    },
    "no statistics": {"params": {"kernel": np.ones((2, 2), np.float32)}, "batch_stats": {}},
    "types": {
        "half": jnp.asarray(RNG.normal(size=7), jnp.bfloat16),
        "flag": np.array([True, False]),
        "number": np.int32(3),
        "large": RNG.normal(size=(700, 500)).astype(np.float32),
        "zeros": np.zeros((700, 500), np.float32),
    },
}


def write(folder, tree):
    with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
        checkpointer.save(folder, args=ocp.args.StandardSave(tree))


def check(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, dict):
            check(found[name], value)
        else:
            assert type(found[name]) is np.ndarray
            assert found[name].dtype == value.dtype
            np.testing.assert_array_equal(found[name], value)


@pytest.mark.parametrize("name", TREES)
def test_arrays_are_those_that_orbax_reads(tmp_path, name):
    write(tmp_path / "item", TREES[name])
    found = arrays.read_arrays(tmp_path / "item")
    check(found, TREES[name])
    other = arrays._read_by_orbax(tmp_path / "item")
    check(found, {k: other[k] for k in found})


@pytest.mark.parametrize("name", ["weights", "no statistics"])
def test_weights_are_read_without_orbax(tmp_path, name, monkeypatch):
    write(tmp_path / "item", TREES[name])
    monkeypatch.delattr(arrays, "_read_by_orbax")
    check(arrays.read_arrays(tmp_path / "item"), TREES[name])
    code = (
        "import sys; from pathlib import Path; from mtl_jax.training.stored import arrays;"
        "arrays.read_arrays(Path(sys.argv[1])); print('orbax' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "item"],
        cwd=scripts.ROOT,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["False"], done


def test_a_missing_part_is_an_error(tmp_path):
    write(tmp_path / "item", TREES["types"])
    largest = max((tmp_path / "item").rglob("*"), key=lambda path: path.stat().st_size)
    largest.unlink()
    with pytest.raises(Exception, match=r"(?i)not.?found|no such file|missing|read"):
        arrays.read_arrays(tmp_path / "item")


def test_other_layouts_are_read_by_orbax(tmp_path, monkeypatch):
    handler = ocp.PyTreeCheckpointHandler(use_ocdbt=False)
    with ocp.Checkpointer(handler) as checkpointer:
        checkpointer.save(tmp_path / "item", args=ocp.args.PyTreeSave(TREES["weights"]))
    with pytest.raises(ValueError, match="item"):
        arrays._read(tmp_path / "item")
    read = []
    monkeypatch.setattr(arrays, "_read_by_orbax", read.append)
    arrays.read_arrays(tmp_path / "item")
    assert read == [tmp_path / "item"]
