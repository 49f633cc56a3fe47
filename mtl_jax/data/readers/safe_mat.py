"""Read arrays of numbers from MATLAB files, version 5 to 7.

scipy.io.loadmat, in C, ends the process for one in seventy files with a few changed bytes. Source:
MathWorks, MAT-File Format, R2019b, chapter 1.
"""

import math
import zlib
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from mtl_jax.io.regular import read_regular

_HEADER = 128  # bytes
_MOST = 2**26  # bytes of a file, and of one of its arrays
_TYPES = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
_MATRIX, _COMPRESSED = 14, 15
_NUMBERS = range(6, 16)  # classes of arrays: double, single, and whole numbers
_COMPLEX = 0x0800


def read_mat(path: Path, names: Container[str]) -> dict[str, np.ndarray]:
    """Return the arrays of real numbers with one of the `names`, as float64.

    Raises OSError if the file cannot be read, ValueError if it is broken or not of these versions.
    """
    data = read_regular(path, _MOST)
    order = {b"IM": "<", b"MI": ">"}.get(data[126:_HEADER])
    if order is None or not data.startswith(b"MATLAB 5"):
        raise ValueError("not a MATLAB file of version 5 to 7")
    found = {}
    for kind, body in _elements(data[_HEADER:], order):
        if kind == _COMPRESSED:
            kind, body = next(_elements(_decompress(body), order), (0, b""))
        if kind == _MATRIX and (array := _read_matrix(body, order, names)) is not None:
            found[array[0]] = array[1]
    return found


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Yield the type and the content of each element."""
    byteorder: Literal["little", "big"] = "little" if order == "<" else "big"
    place = 0
    while place + 8 <= len(data):
        kind = int.from_bytes(data[place : place + 4], byteorder)
        size, start = int.from_bytes(data[place + 4 : place + 8], byteorder), place + 8
        if kind >> 16:  # an element of up to 4 bytes has its size in the upper half
            kind, size, start = kind & 0xFFFF, kind >> 16, place + 4
        if size > len(data) - start:
            raise ValueError("truncated")
        yield kind, data[start : start + size]
        place = start + size
        if kind != _COMPRESSED:
            place += -place % 8


def _decompress(data: bytes) -> bytes:
    try:
        unpacker = zlib.decompressobj()
        content = unpacker.decompress(data, _MOST)
    except zlib.error as error:
        raise ValueError(f"an array cannot be decompressed ({error})") from None
    if unpacker.unconsumed_tail:
        raise ValueError(f"an array has more than {_MOST:,} bytes")
    return content


def _read_matrix(body: bytes, order: str, names: Container[str]) -> tuple[str, np.ndarray] | None:
    """Return the name and the array of an element, or None if it is not one of `names`."""
    parts = list(_elements(body, order))
    if len(parts) < 4 or len(parts[0][1]) != 8 or len(parts[1][1]) % 4:
        return None
    (_, flags), (_, sides), (_, name), (kind, values) = parts[:4]
    text = name.decode("latin1")
    if text not in names:
        return None
    flag = int(np.frombuffer(flags, f"{order}u4")[0])
    shape = np.frombuffer(sides, f"{order}i4").tolist()
    if flag & 0xFF not in _NUMBERS or flag & _COMPLEX or kind not in _TYPES:
        raise ValueError(f"{text} is not an array of real numbers")
    dtype = np.dtype(f"{order}{_TYPES[kind]}")
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(values):
        raise ValueError(f"{text} has {len(values)} bytes, which do not match its shape {shape}")
    return text, np.frombuffer(values, dtype).astype(float).reshape(shape, order="F")
