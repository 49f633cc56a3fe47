import io
import os
import pickle
import time
from typing import ClassVar

import numpy as np
import pytest
from mistakes import refused

from mtl_jax.data.readers.safe_npy import load_object_array


def faces():
    """Return two rows like HyperFace's samples: an image, a label, points and visibility."""
    array = np.empty((2, 4), object)
    array[0] = [np.arange(24, dtype=np.uint8).reshape(2, 4, 3), [1, 1], np.arange(4.0), np.ones(2)]
    array[1] = [np.zeros((0, 3), np.uint8), (0, 0), np.float32(2.5), {"sex": None, "name": "Å"}]
    return array


def write(path, array, pickled):
    """Write an object array in the layout that all versions of NumPy use."""
    with path.open("wb") as file:
        header = dict(descr="|O", fortran_order=False, shape=array.shape)
        np.lib.format.write_array_header_1_0(file, header)
        file.write(pickled)
    return path


def assert_equal(found, expected):
    assert type(found) is type(expected)
    if isinstance(expected, np.ndarray):
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    if isinstance(expected, dict):
        assert found == expected
    elif isinstance(expected, list | tuple) or getattr(expected, "dtype", None) == np.dtype("O"):
        for one, other in zip(np.ravel(found), np.ravel(expected), strict=True):
            assert_equal(one, other)
    else:
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_an_object_array_is_read_as_it_was_written(tmp_path, protocol):
    found = load_object_array(
        write(tmp_path / "faces.npy", faces(), pickle.dumps(faces(), protocol))
    )
    assert found.shape == (2, 4)
    for one, other in zip(found.flat, faces().flat, strict=True):
        assert_equal(one, other)


def test_a_file_of_the_installed_numpy_is_read(tmp_path):
    np.save(tmp_path / "faces.npy", faces(), allow_pickle=True)
    assert_equal(load_object_array(tmp_path / "faces.npy")[0, 0], faces()[0, 0])


def test_names_of_numpy_before_2_are_read(tmp_path):
    path = write(tmp_path / "faces.npy", faces(), pickle.dumps(faces(), 2))
    path.write_bytes(path.read_bytes().replace(b"numpy._core.", b"numpy.core."))
    assert_equal(load_object_array(path)[0, 0], faces()[0, 0])


class Python2Pickler(pickle._Pickler):
    """Writes bytes as strings of Python 2."""

    def save_bytes(self, data):
        self.write(b"T" + len(data).to_bytes(4, "little") + data)

    dispatch: ClassVar = {**pickle._Pickler.dispatch, bytes: save_bytes}


def test_pickles_of_python_2_are_read(tmp_path):
    given = np.empty((1, 2), object)
    given[0] = [np.arange(120, 140, dtype=np.uint8), np.float32(2.5)]
    file = io.BytesIO()
    Python2Pickler(file, 2).dump(given)
    found = load_object_array(write(tmp_path / "faces.npy", given, file.getvalue()))
    assert_equal(found[0, 0], given[0, 0])
    assert_equal(found[0, 1], given[0, 1])


def test_byte_order_and_columns_first_are_kept(tmp_path):
    array = np.empty(2, object)
    array[0] = np.arange(6, dtype=">i2").reshape(2, 3)
    array[1] = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    found = load_object_array(write(tmp_path / "a.npy", array, pickle.dumps(array)))
    for one, other in zip(found, array, strict=True):
        assert_equal(one, other)


def test_plain_arrays_are_read_too(tmp_path):
    np.save(tmp_path / "a.npy", np.eye(3))
    np.testing.assert_array_equal(load_object_array(tmp_path / "a.npy"), np.eye(3))


class Hostile:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


def raw(*parts):
    return b"\x80\x04" + b"".join(parts) + b"."


def name(module, attribute):
    return f"c{module}\n{attribute}\n".encode()


RECONSTRUCT = name("numpy._core.multiarray", "_reconstruct")
OBJECT = name("numpy", "dtype") + b"S'O8'\n\x85R"
# A pickle, and what the message names beside the file; "persistent" and "extension" are Python's.
HOSTILE = {
    "calls a function": (pickle.dumps(Hostile(os.mkdir, ("hostile",))), ["posix.mkdir"]),
    "calls one inside an array": (
        pickle.dumps(np.array([Hostile(os.mkdir, ("hostile",))], object)),
        ["posix.mkdir"],
    ),
    "names a method": (raw(b"\x8c\x05numpy\x8c\x0endarray.tofile\x93"), ["numpy.ndarray.tofile"]),
    "changes a function": (raw(RECONSTRUCT, b"}S'__doc__'\nS'x'\nsb"), []),
    "has named fields": (pickle.dumps(np.zeros(1, [("a", "i8")]), 4), ["V8"]),
    "persistent id": (raw(b"Pout\n"), ["persistent"]),
    "extension": (raw(b"\x82\x01"), ["extension code 1"]),
    "reads an object from bytes": (
        raw(name("numpy._core.multiarray", "scalar"), OBJECT, b"C\x08AAAAAAAA\x86R"),
        [],
    ),
    "is not an array": (pickle.dumps([1, 2]), []),
    "is not filled in": (raw(RECONSTRUCT, b")R"), []),
    "is longer than its header": (pickle.dumps(np.empty(3, object)), []),
    "is shorter than its shape": (
        raw(RECONSTRUCT, b")R(K\x01J\xff\xff\xff\x7f\x85", OBJECT, b"\x89]tb"),
        [2**31 - 1],
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_file_is_one_line_and_runs_nothing(tmp_path, monkeypatch, what):
    monkeypatch.chdir(tmp_path)
    data, parts = HOSTILE[what]
    path = write(tmp_path / "hostile.npy", np.empty(0, object), data)
    with refused(path, *parts):
        load_object_array(path)
    assert os.listdir(tmp_path) == ["hostile.npy"]


def test_an_array_that_contains_itself_is_refused(tmp_path):
    array = np.empty(1, object)
    array[0] = array
    path = write(tmp_path / "a.npy", array, pickle.dumps(array))
    with refused(path):
        load_object_array(path)


@pytest.mark.parametrize("length", [0, 5, 60, 130, 300])
def test_a_truncated_file_is_one_line(tmp_path, length):
    path = write(tmp_path / "faces.npy", faces(), pickle.dumps(faces()))
    path.write_bytes(path.read_bytes()[:length])
    with refused(path):
        load_object_array(path)


def test_a_missing_file_is_one_line(tmp_path):
    with refused(tmp_path / "none.npy"):
        load_object_array(tmp_path / "none.npy")


def doubled(levels: int) -> object:
    value: object = [1.0, 2.0]
    for _ in range(levels):
        value = [value, value]
    return value


def bombs() -> dict[str, bytes]:
    large = np.zeros(1_000_000, np.uint8)
    return {
        "lists in lists": pickle.dumps(array_of(doubled(40))),
        "tuples in dicts": pickle.dumps(array_of({"a": tuple([doubled(40)] * 3)})),
        "an array in many places": pickle.dumps(array_of([large] * 100_000)),
        "arrays of arrays": pickle.dumps(
            array_of(*[array_of(*[array_of(*range(100))] * 300)] * 300)
        ),
        "a number in the table": raw(b"K\x01r\xff\xff\xff\x7f"),
        "a text number in the table": raw(b"K\x01p2147483647\n"),
        "long bytes": raw(b"\x8e" + (2**40).to_bytes(8, "little") + b"x"),
        "a long name of a type": raw(
            name("numpy", "dtype"), b"X\x40\x42\x0f\0" + b"i4,," * 250_000, b"\x85R"
        ),
    }


def array_of(*values: object) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values if len(values) > 1 else [values[0]]
    return array


@pytest.mark.parametrize("case", bombs())
def test_a_small_pickle_that_claims_much_is_refused_in_a_moment(tmp_path, case):
    path = write(tmp_path / "bomb.npy", np.empty(1, object), bombs()[case])
    start = time.process_time()
    with refused(path):
        load_object_array(path)
    assert time.process_time() - start < 10


def test_values_that_several_rows_share_are_read(tmp_path):
    shared, label = np.arange(1000.0), [1, 1]
    array = np.empty((500, 2), object)
    for row in range(500):
        array[row, 0], array[row, 1] = shared[:10], label
    found = load_object_array(write(tmp_path / "a.npy", array, pickle.dumps(array)))
    assert found[499, 1] == [1, 1]
