"""Reading of `.npy` arrays and `.npz` archives whose headers may declare anything."""

import math
import os
import zipfile
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from mtl_jax.io.regular import open_regular


class Header(NamedTuple):
    """The array that a file declares."""

    shape: tuple[int, ...]
    dtype: np.dtype


def read_header(file: IO[bytes]) -> Header:
    """Read the header of a `.npy` file. Raises ValueError if it is broken.

    Source: the format of NumPy's `lib.format`.
    """
    try:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        else:
            shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    except Exception as error:  # NumPy evaluates the header, which can raise any exception
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"truncated or not a .npy array ({reason})") from None
    if any(length < 0 for length in shape) or not dtype.itemsize:
        raise ValueError(f"the array has the shape {shape} and the type {dtype}")
    return Header(shape, dtype)


def read_array(file: IO[bytes], size: int) -> np.ndarray:
    """Read a `.npy` file of `size` bytes from its start.

    Raises ValueError if it is broken, contains objects, or declares more bytes than it has.
    """
    file.seek(0)
    shape, dtype = read_header(file)
    if dtype.hasobject:
        raise ValueError("Object arrays cannot be loaded when allow_pickle=False")
    declared = math.prod(shape) * dtype.itemsize
    if declared > size - file.tell():
        raise ValueError(f"truncated: the array declares {declared:,} bytes of the file's {size:,}")
    file.seek(0)
    try:
        return np.lib.format.read_array(file, allow_pickle=False)
    except (TypeError, OverflowError, MemoryError) as error:  # a shape that NumPy cannot represent
        raise ValueError(f"not a .npy array ({error})") from None


def read_archive(path: Path, most: int | None = None) -> dict[str, np.ndarray]:
    """Read the arrays of a `.npz` file that declares at most `most` bytes.

    By default these are the bytes of the file, so that its arrays must not be compressed: a few
    bytes of compressed data can claim any number. A broken archive can raise any exception.
    """
    with open_regular(path) as file, zipfile.ZipFile(file) as archive:
        limit = os.fstat(file.fileno()).st_size if most is None else most
        members = archive.infolist()
        if sum(member.file_size for member in members) > limit:
            raise ValueError(f"its arrays are compressed, or declare more than {limit:,} bytes")
        arrays = {}
        for member in members:
            with archive.open(member) as entry:
                name = member.filename.removesuffix(".npy")
                arrays[name] = read_array(entry, member.file_size)
    return arrays
