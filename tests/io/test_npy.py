"""Arrays whose header declares anything."""

import io

import numpy as np
import pytest
from mistakes import refused

from mtl_jax.io.npy import read_array


def whole(array) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def declared(header: str, data: bytes = b"\0" * 8) -> bytes:
    text = header.encode("latin1")
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


def header(shape: object, kind: str = "<f8") -> str:
    return f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n"


@pytest.mark.parametrize("array", [np.eye(3), np.zeros((0, 2), np.uint8), np.array(2.5)])
def test_an_array_is_read_as_it_was_written(array):
    data = whole(array)
    found = read_array(io.BytesIO(data), len(data))
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


BROKEN = {
    "an open bracket": "{'descr': ('<f8', 'shape': (",
    "nested brackets": "(" * 9000,
    "no header": "",
    "another text": "hello",
    "a huge shape": header((2**62, 2**62)),
    "a shape of many bytes": header((2**34,)),
    "a negative shape": header((-1, -8)),
    "a shape beyond NumPy's": header((0, 2**70)),
    "many axes": header((1,) * 70),
    "a type without a size": header((2**62,), "S0"),
    "an unknown type": header((1,), "<f7"),
    "objects": header((1,), "|O"),
}


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.filterwarnings("ignore::UserWarning")  # NumPy's, of headers of Python 2
def test_a_broken_header_is_a_value_error(case):
    data = declared(BROKEN[case])
    with refused(error=ValueError):
        read_array(io.BytesIO(data), len(data))


def test_every_cut_is_refused():
    data = whole(np.arange(6.0))
    for length in range(len(data)):
        with refused(error=ValueError):
            read_array(io.BytesIO(data[:length]), length)
