"""Arrays of MATLAB files: as SciPy reads them, and broken files."""

import random
import zlib
from contextlib import suppress

import numpy as np
import pytest
import scipy.io
from mistakes import refused
from real_data import data_set

from mtl_jax.data.readers.safe_mat import read_mat

ARRAYS = {
    "a": np.arange(12.0).reshape(3, 4),
    "b": np.arange(6, dtype=np.float32).reshape(1, 6),
    "c": np.arange(6, dtype=np.int16).reshape(2, 3),
    "d": np.zeros((0, 3)),
    "long_name": np.array([[7]], np.uint8),
}


@pytest.mark.parametrize("compressed", [False, True])
def test_arrays_are_read_as_they_were_written(tmp_path, compressed):
    others = {"text": "hello", "cells": np.array([1, "x"], object), "fields": {"x": 1}}
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {**others, **ARRAYS}, do_compression=compressed)
    found = read_mat(path, ARRAYS)
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert found[name].dtype == np.float64
        np.testing.assert_array_equal(found[name], array)
    assert read_mat(path, ("b",)).keys() == {"b"}


def test_arrays_without_real_numbers_are_refused(tmp_path):
    path = tmp_path / "a.mat"
    for value in ("hello", np.array([[1j]]), np.array([1, "x"], object), {"x": 1}):
        scipy.io.savemat(path, {"a": value})
        with suppress(ValueError):
            assert read_mat(path, ("a",)) == {}
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(600))  # version 7.3
    with refused(error=ValueError):
        read_mat(path, ("a",))


def test_an_array_that_claims_much_is_refused(tmp_path):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, ARRAYS)
    packed = zlib.compress(bytes(200_000_000), 9)
    bomb = (15).to_bytes(4, "little") + len(packed).to_bytes(4, "little") + packed
    path.write_bytes(path.read_bytes()[:128] + bomb)
    with refused("67,108,864", error=ValueError):
        read_mat(path, ("a",))


@pytest.mark.parametrize("compressed", [False, True])
def test_every_damage_is_a_value_error(tmp_path, compressed):
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, ARRAYS, do_compression=compressed)
    whole, rng = path.read_bytes(), random.Random(0)
    for _ in range(1000):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(100, len(data))] = rng.randrange(256)
        path.write_bytes(data[: rng.randrange(len(data))] if rng.random() < 0.2 else data)
        with suppress(ValueError):
            read_mat(path, ARRAYS)


def test_the_arrays_of_aflw2000_are_scipys():
    paths = sorted(data_set("aflw2000_prnet16").glob("*.mat"))
    assert paths
    for path in paths:
        found = read_mat(path, ("Pose_Para", "pt2d", "pt3d_68"))
        expected = scipy.io.loadmat(path)
        for name, array in found.items():
            np.testing.assert_array_equal(array, expected[name])
        assert "Pose_Para" in found
