"""Read and write PyTorch's files of tensors without PyTorch. No code from a file is ever run."""

import io
import math
import os
import pickle
import struct
import sys
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes  # noqa: F401  registers bfloat16 and types of 8 bits with NumPy
import numpy as np

from mtl_jax.convert.torch_pickle import STORAGES, Tensor, TensorUnpickler
from mtl_jax.errors import UserError
from mtl_jax.io.atomic import write_whole
from mtl_jax.io.regular import open_regular
from mtl_jax.io.safe_pickle import MAX_BYTES
from mtl_jax.io.stored_zip import START, Member, read_members, write_members

_MAX_RATIO = 4  # of the bytes of all tensors to those of their file; several may share their values
_MAX_STORAGES = 100_000
_CHUNK = 2**22  # bytes that are read at once
# The first two of the four pickles of a file of PyTorch before 1.6.
_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001
_STORAGE_TYPES = {dtype: storage for storage, dtype in STORAGES.items()}


class _Content(NamedTuple):
    """What is in a file: the pickled object, and where the values of its storages are."""

    value: Any
    places: Mapping[str, Member]
    order: str  # of bytes, "little" or "big"


def read_torch(path: str | Path) -> dict[str, np.ndarray]:
    """Return the tensors of a state dict, or of the state dict "model" of a checkpoint, by name.

    Floating-point tensors of all types become float32. Tensors that share values in the file share
    them in memory. Raises UserError if the file is missing or damaged, if it is compressed, or if
    its pickle contains or refers to anything but dense tensors, numbers, text and collections.
    """
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            content = _read_zip(file) if file.read(4) == START else _read_old(file, size)
            state = _state_dict(content.value, size)
            return dict(_load(file, state, content))
    except ValueError as error:
        raise UserError(
            f"{path}: must contain a state dict of dense tensors, as model.state_dict() returns it "
            f"({error})"
        ) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except MemoryError:
        raise UserError(f"{path}: requires more memory than is available") from None


def _read_zip(file: io.BufferedReader) -> _Content:
    members = read_members(file, _MAX_STORAGES)
    folder, slash, _ = next(iter(members)).partition(b"/")
    if not slash or folder + b"/constants.pkl" in members:
        raise ValueError("it is an archive, but not of a state dict")

    def read(name: bytes, default: bytes, most: int = 64) -> bytes:
        member = members.get(folder + slash + name)
        if member is None:
            return default
        if member.size > most:
            raise ValueError(f"{name.decode()} in the archive has {member.size:,} bytes")
        return _read_elements(file, member, "uint8", is_swapped=False).tobytes()

    version = read(b".data/version", read(b"version", b"")).strip()
    order = read(b"byteorder", b"little")
    if version not in map(b"%d".__mod__, range(1, 11)) or order not in (b"little", b"big"):
        raise ValueError("its version or its byte order is unknown")
    numbers = read(b".storage_alignment", b"64"), read(b".data/serialization_id", b"0")
    if not all(number.isdigit() for number in numbers):
        raise ValueError("its alignment or its number is not a number")
    unpickler = TensorUnpickler(io.BytesIO(read(b"data.pkl", b"", MAX_BYTES)))
    value = unpickler.load()
    places = {}
    for key, storage in unpickler.storages.items():
        place = members.get(folder + b"/data/" + key.encode())
        if place is None or place.size < storage.end:
            raise ValueError(f"the storage {key!r} is missing in the archive, or too small")
        places[key] = place
    return _Content(value, places, order.decode())


def _read_old(file: io.BufferedReader, size: int) -> _Content:
    """Read a file of PyTorch before 1.6: pickles, the last of which lists the storages that follow,
    each after its number of elements.
    """
    file.seek(0)
    is_pickle = file.read(1) == pickle.PROTO
    file.seek(0)
    if not is_pickle or [TensorUnpickler(file).load() for _ in range(2)] != [_MAGIC, _VERSION]:
        raise ValueError("it does not begin as PyTorch's files do")
    TensorUnpickler(file).load()  # of the system that wrote it
    unpickler = TensorUnpickler(file, is_old=True)
    value = unpickler.load()
    keys = TensorUnpickler(file).load()
    if type(keys) is not list or len(keys) > _MAX_STORAGES:
        raise ValueError("the list of its storages is damaged")
    places: dict[str, Member] = {}
    for key in keys:
        storage = unpickler.storages.get(key) if type(key) is str else None
        if storage is None or key in places:
            raise ValueError("the list of its storages is damaged")
        count = int.from_bytes(file.read(8), "little", signed=True)
        place = Member(file.tell(), storage.end, None)
        if count != storage.count or place.start + place.size > size:
            raise ValueError(f"the storage {key!r} is truncated or damaged")
        file.seek(place.start + place.size)
        places[key] = place
    if len(places) != len(unpickler.storages):
        raise ValueError("the list of its storages is damaged")
    return _Content(value, places, "little")


def _state_dict(value: Any, size: int) -> dict[str, Tensor]:
    """Return the state dict in the object of a file of `size` bytes."""
    # Training scripts save the model's weights together with the optimizer's.
    if isinstance(value, dict) and isinstance(value.get("model"), dict):
        value = value["model"]
    if not isinstance(value, dict):
        raise ValueError(f"it contains a {type(value).__name__}")
    for key, tensor in value.items():
        if type(key) is not str or type(tensor) is not Tensor:
            raise ValueError(f"{key!r} is a {type(tensor).__name__}")
    # Views of one stored number can claim any shape.
    claimed = sum(tensor.nbytes for tensor in value.values())
    if claimed > _MAX_RATIO * size:
        raise ValueError(f"its tensors have {claimed:,} bytes, many more than the file")
    return value


def _load(
    file: io.BufferedReader, state: Mapping[str, Tensor], content: _Content
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the tensors with their names. Only storages that they use are read, each once."""
    types = {tensor.storage.key: tensor.dtype for tensor in state.values()}
    elements: dict[str, np.ndarray] = {}
    for name, tensor in state.items():
        key, dtype = tensor.storage.key, tensor.dtype
        if dtype != types[key]:
            raise ValueError(f"the storage {key!r} is used as {dtype} and as {types[key]}")
        is_swapped = content.order != sys.byteorder
        if is_swapped and dtype != tensor.storage.dtype:
            raise ValueError(f"the byte order of {name!r} is unknown")
        if key not in elements:
            elements[key] = _read_elements(file, content.places[key], dtype, is_swapped)
        yield name, _view(elements[key], tensor)


def _view(elements: np.ndarray, tensor: Tensor) -> np.ndarray:
    if not all(tensor.shape):
        return np.empty(tensor.shape, elements.dtype)
    start = (tensor.storage.start + tensor.offset) * elements.itemsize
    strides = [step * elements.itemsize for step in tensor.strides]
    return np.ndarray(tensor.shape, elements.dtype, elements.data, start, strides)


def _read_elements(
    file: io.BufferedReader, place: Member, dtype: str, is_swapped: bool
) -> np.ndarray:
    """Return the elements of a storage, `[count]`; floating-point numbers become float32.

    Raises ValueError if the storage is truncated, or if its checksum is wrong.
    """
    stored = np.dtype(dtype)
    target = np.dtype(np.float32) if dtype.startswith(("float", "bfloat")) else stored
    width = stored.itemsize // 2 if stored.kind == "c" else stored.itemsize  # of a number
    step = _CHUNK // stored.itemsize
    out = np.empty(place.size // stored.itemsize, target)
    buffer = np.empty(min(step, out.size), stored) if target != stored else out
    file.seek(place.start)
    crc = 0
    for begin in range(0, out.size, step):
        part = out[begin : begin + step]
        read = part if target == stored else buffer[: part.size]
        data = read.view(np.uint8).data
        if file.readinto(data) < len(data):
            raise ValueError("the file is truncated")
        crc = zlib.crc32(data, crc)
        if is_swapped:
            read.view(f"u{width}").byteswap(inplace=True)
        if target != stored:
            with np.errstate(all="ignore"):  # a float64 can exceed the range, and a NaN can signal
                part[:] = read
    rest = file.read(place.size - out.size * stored.itemsize)
    if place.crc is not None and zlib.crc32(rest, crc) != place.crc:
        raise ValueError("the file is damaged: a storage does not match its checksum")
    return out


def write_torch(path: str | Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write tensors as a .pth file that `torch.load(weights_only=True)` reads, whole or not at all.

    Equal tensors give equal files. Raises ValueError for types without a storage type in PyTorch.
    """
    arrays = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    for name, array in arrays.items():
        if array.dtype.name not in _STORAGE_TYPES or not array.dtype.isnative:
            raise ValueError(f"{name}: PyTorch has no storage of {array.dtype}")
    with write_whole(path) as draft, open(draft, "wb") as file:
        write_members(file, _members(arrays))


def _members(arrays: Mapping[str, np.ndarray]) -> Iterator[tuple[str, bytes | memoryview]]:
    described = (_describe(name, str(i), x) for i, (name, x) in enumerate(arrays.items()))
    start = pickle.PROTO + b"\2" + pickle.EMPTY_DICT + pickle.MARK
    yield "archive/data.pkl", start + b"".join(described) + pickle.SETITEMS + pickle.STOP
    yield "archive/byteorder", sys.byteorder.encode()
    for i, array in enumerate(arrays.values()):
        yield f"archive/data/{i}", array.reshape(-1).view(np.uint8).data
    yield "archive/version", b"3\n"


def _describe(name: str, key: str, array: np.ndarray) -> bytes:
    """Return the part of a pickle that adds a tensor, whose storage is `key`, to a dict."""
    storage = _name("torch", _STORAGE_TYPES[array.dtype.name])
    strides = tuple(math.prod(array.shape[i + 1 :]) for i in range(array.ndim))
    return b"".join(
        [
            _pickle(name),
            _name("torch._utils", "_rebuild_tensor_v2"),
            *(pickle.MARK, pickle.MARK),
            *(_pickle("storage"), storage, _pickle(key), _pickle("cpu"), _pickle(array.size)),
            *(pickle.TUPLE, pickle.BINPERSID),
            *(_pickle(0), _pickle(array.shape), _pickle(strides)),
            pickle.NEWFALSE,
            *(_name("collections", "OrderedDict"), pickle.EMPTY_TUPLE, pickle.REDUCE),
            *(pickle.TUPLE, pickle.REDUCE),
        ]
    )


def _name(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _pickle(value: str | int | tuple[int, ...]) -> bytes:
    if isinstance(value, tuple):
        return pickle.MARK + b"".join(map(_pickle, value)) + pickle.TUPLE
    if isinstance(value, str):
        data = value.encode()
        return pickle.BINUNICODE + struct.pack("<I", len(data)) + data
    data = pickle.encode_long(value)
    return pickle.LONG1 + bytes([len(data)]) + data
