"""Read `.npy` files of object arrays, which NumPy pickles, without executing code from them."""

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np

from mtl_jax.errors import UserError
from mtl_jax.io.npy import read_array, read_header
from mtl_jax.io.regular import read_regular

# Bytes and objects that an array may contain beyond the size of its file: a pickle can refer to one
# object many times.
_SHARED = 1_000_000


def load_object_array(path: str | Path) -> np.ndarray:
    """Read an object array of arrays, numbers, strings, None, and lists, tuples and dicts of these.

    `np.load(allow_pickle=True)` would call any function that the file names. Raises UserError if
    the file is broken, calls anything but constructors of arrays, or refers to its objects so often
    that the array would be much larger than the file.
    """
    try:
        return _read(read_regular(path))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except Exception as error:  # a pickle can raise any exception
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{path}: must be an array that can be read safely ({reason})") from None


def _read(data: bytes) -> np.ndarray:
    file = io.BytesIO(data)
    shape, dtype = read_header(file)
    if not dtype.hasobject:
        return read_array(file, len(data))
    start = file.tell()
    for opcode, argument, _ in pickletools.genops(file):
        # Python before 3.14 allocates a table up to the number of an object.
        if opcode.name in ("PUT", "LONG_BINPUT") and not 0 <= int(str(argument)) <= len(data):
            raise pickle.UnpicklingError("it numbers an object beyond its length")
    file.seek(start)
    found = _ArrayUnpickler(file, encoding="latin1").load()
    array = _Plain(len(data)).convert(found) if isinstance(found, _Array) else None
    if array is None or array.shape != shape:
        raise ValueError("its header does not match its array")
    return array


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickler that replaces each name of a pickle by a stand-in from this file, or refuses it.

    NumPy's constructors are not called: a pickle can pass them types and buffers that do not match.
    """

    def find_class(self, module: str, name: str, /) -> Any:
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"it calls {module}.{name}")
        return _ADMITTED[module, name]


class _Call:
    """A function that a pickle may call but not modify."""

    __slots__ = ("_function",)

    def __init__(self, function: Any):
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("it modifies a function")


class _Dtype:
    """Stand-in for a dtype of numbers, strings or objects."""

    def __init__(self, code: Any, *_: Any):
        self.dtype = np.dtype(str(code)[:32])
        if self.dtype.kind not in "biufcSUO":
            raise pickle.UnpicklingError(f"it contains the type {self.dtype}")

    def __setstate__(self, state: Any) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stand-in for an array; `__setstate__` receives its values."""

    def __init__(self, *_: Any):
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Plain:
    """Converts values with stand-ins to arrays and plain values. Containers are copied.

    Raises UnpicklingError if they contain more than `size` + _SHARED bytes and objects.
    """

    def __init__(self, size: int):
        self._left = size + _SHARED

    def _spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise pickle.UnpicklingError("it refers to its objects too often")

    def convert(self, value: Any) -> Any:
        self._spend(1)
        if isinstance(value, _Array):
            return self._array(*value.state)
        if isinstance(value, list | tuple):
            return type(value)(self.convert(part) for part in value)
        if isinstance(value, dict):
            return {key: self.convert(part) for key, part in value.items()}
        if value is None or isinstance(
            value, bool | int | float | complex | str | bytes | np.generic
        ):
            return value
        raise pickle.UnpicklingError(f"it contains a {type(value).__name__}")

    def _array(self, _: Any, shape: Any, kind: _Dtype, fortran: Any, values: Any) -> np.ndarray:
        self._spend(len(values))
        if kind.dtype.hasobject:
            array = np.empty(len(values), object)
            for position, value in enumerate(values):
                array[position] = self.convert(value)
        else:
            array = np.frombuffer(_as_bytes(values), kind.dtype).copy()
        return array.reshape(shape, order="F" if fortran else "C")


def _scalar(kind: _Dtype, data: bytes | str) -> np.generic:
    if kind.dtype.hasobject:
        raise pickle.UnpicklingError("it contains an object as a scalar")
    return np.frombuffer(_as_bytes(data), kind.dtype, 1)[0]


def _as_bytes(data: bytes | str) -> bytes:
    """Return data as bytes; Python 2 pickled bytes as text."""
    return data.encode("latin1") if isinstance(data, str) else data


def _encode(text: str, encoding: str) -> bytes:
    """Decode bytes that pickle protocol 2 stores as Latin-1 text."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it uses the encoding {encoding}")
    return text.encode("latin1")


_ADMITTED = {
    ("numpy", "ndarray"): _Call(_Array),  # the class that `_reconstruct` takes
    ("numpy", "dtype"): _Call(_Dtype),
    ("_codecs", "encode"): _Call(_encode),
    ("builtins", "bytes"): _Call(lambda: b""),
    ("__builtin__", "bytes"): _Call(lambda: b""),
}
for _core in ("numpy.core.multiarray", "numpy._core.multiarray"):  # NumPy 1 and 2
    _ADMITTED[_core, "_reconstruct"] = _Call(_Array)
    _ADMITTED[_core, "scalar"] = _Call(_scalar)
