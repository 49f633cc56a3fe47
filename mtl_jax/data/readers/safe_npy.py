"""`.npy` files of object arrays, which NumPy stores as a pickle: read without running anything that
stands in them.
"""

import pickle
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mtl_jax.errors import UserError


def load_object_array(path: str | Path) -> np.ndarray:
    """Read an object array: of arrays, numbers, texts, None, and lists, tuples and dicts of those.

    Source: the format of NumPy's `lib.format`; `np.load(allow_pickle=True)` would call whatever
    the file names. Raises UserError where the file is broken or names anything but arrays.
    """
    try:
        with Path(path).open("rb") as file:
            return _read(file)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except Exception as error:  # a pickle raises whatever its author wished
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{path}: is no array that can be read safely ({reason})") from None


def _read(file: BinaryIO) -> np.ndarray:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    else:
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    if not dtype.hasobject:
        file.seek(0)
        return np.lib.format.read_array(file, allow_pickle=False)
    found = _ArrayUnpickler(file, encoding="latin1").load()
    array = found.array if isinstance(found, _Array) else None
    if array is None or array.shape != shape:
        raise ValueError("its header promises another array")
    return array


class _ArrayUnpickler(pickle.Unpickler):
    """Makes every name of a pickle into one of this file's own, or refuses it.

    NumPy's constructors are not called: a pickle can give them types and buffers that do not fit.
    """

    def find_class(self, module: str, name: str, /) -> Any:
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"it calls {module}.{name}")
        return _ADMITTED[module, name]


class _Call:
    """What a pickle may call with a tuple, and may not change."""

    __slots__ = ("_function",)

    def __init__(self, function: Any):
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("it changes a function")


class _Dtype:
    """A type of plain numbers or texts, or of objects."""

    def __init__(self, code: Any, *_: Any):
        self.dtype = np.dtype(code)
        if self.dtype.kind not in "biufcSUO":
            raise pickle.UnpicklingError(f"it holds the type {self.dtype}")

    def __setstate__(self, state: Any) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """An array that is not filled in yet."""

    def __init__(self, *_: Any):
        self.array: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, values = state
        if kind.dtype.hasobject:
            array = np.empty(len(values), object)
            for position, value in enumerate(values):
                array[position] = _plain(value)
        else:
            array = np.frombuffer(_as_bytes(values), kind.dtype).copy()
        self.array = array.reshape(shape, order="F" if fortran else "C")


def _plain(value: Any) -> Any:
    """Give what was read for it, arrays filled in, the containers new."""
    if isinstance(value, _Array):
        if value.array is None:
            raise pickle.UnpicklingError("an array holds itself")
        return value.array
    if isinstance(value, list | tuple):
        return type(value)(_plain(part) for part in value)
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | np.generic):
        return value
    raise pickle.UnpicklingError(f"it holds a {type(value).__name__}")


def _scalar(kind: _Dtype, data: bytes | str) -> np.generic:
    if kind.dtype.hasobject:
        raise pickle.UnpicklingError("it holds an object as a number")
    return np.frombuffer(_as_bytes(data), kind.dtype, 1)[0]


def _as_bytes(data: bytes | str) -> bytes:
    """Give bytes, which Python 2 pickled as text."""
    return data.encode("latin1") if isinstance(data, str) else data


def _encode(text: str, encoding: str) -> bytes:
    """Give bytes as pickles of protocol 2 hold them."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it encodes in {encoding}")
    return text.encode("latin1")


_ADMITTED = {
    ("numpy", "ndarray"): _Call(_Array),  # named as what to reconstruct
    ("numpy", "dtype"): _Call(_Dtype),
    ("_codecs", "encode"): _Call(_encode),
    ("builtins", "bytes"): _Call(lambda: b""),
    ("__builtin__", "bytes"): _Call(lambda: b""),
}
for _core in ("numpy.core.multiarray", "numpy._core.multiarray"):  # before NumPy 2 and since
    _ADMITTED[_core, "_reconstruct"] = _Call(_Array)
    _ADMITTED[_core, "scalar"] = _Call(_scalar)
