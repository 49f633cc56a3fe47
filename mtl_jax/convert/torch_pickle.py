"""The names in PyTorch's pickles of tensors, and the tensors and storages that they describe."""

import math
from dataclasses import dataclass
from typing import Any, BinaryIO

from mtl_jax.io.safe_pickle import Unpickler, counter, ordered_dict

# Sizes of elements in bytes by PyTorch's names, and the storage types that have a name.
SIZES = {
    **{"float32": 4, "float64": 8, "float16": 2, "bfloat16": 2, "complex64": 8, "complex128": 16},
    **{"uint8": 1, "uint16": 2, "uint32": 4, "uint64": 8, "bool": 1},
    **{"int8": 1, "int16": 2, "int32": 4, "int64": 8},
    **{"float8_e4m3fn": 1, "float8_e5m2": 1, "float8_e4m3fnuz": 1, "float8_e5m2fnuz": 1},
    "float8_e8m0fnu": 1,
}
STORAGES = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "ByteStorage": "uint8",
    "CharStorage": "int8",
    "ShortStorage": "int16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
}
# Attributes that change the values of the tensor whose attributes they are.
_VALUES = {"data", "real", "imag"}


@dataclass(frozen=True, slots=True)
class Storage:
    """Elements that tensors share: `count` elements from `start` of the file's storage `key`."""

    key: str
    dtype: str
    count: int
    start: int = 0

    @property
    def end(self) -> int:
        """Return where it ends in the file's storage, in bytes."""
        return (self.start + self.count) * SIZES[self.dtype]


@dataclass(frozen=True, slots=True)
class Tensor:
    """A view of a storage. Offset and strides count elements of `dtype`."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Return the bytes of its elements, which may be more than those of its storage."""
        return math.prod(self.shape) * SIZES[self.dtype]


@dataclass(frozen=True, slots=True)
class _Type:
    """The type of an element, or of a storage of such elements."""

    dtype: str
    is_storage: bool


class TensorUnpickler:
    """Reads a pickle of PyTorch. `storages` are its storages by key; older files contain views."""

    def __init__(self, file: BinaryIO, is_old: bool = False):
        self._is_old = is_old
        self._unpickler = Unpickler(file, _OLD_NAMES if is_old else _NAMES, self._refer)
        self.storages: dict[str, Storage] = {}
        self._views: dict[str, Storage] = {}

    def load(self) -> Any:
        """Return the pickled object, in which tensors are `Tensor`. Raises ValueError if the pickle
        is damaged, contains sparse, quantized or meta tensors, or refers to anything else.
        """
        return self._unpickler.load()

    def _refer(self, found: Any) -> Storage:
        """Return the storage that a persistent id describes."""
        if type(found) is not tuple or len(found) != 5 + self._is_old:
            raise TypeError
        kind, storage_type, key, _, count, *rest = found
        if kind != "storage" or type(storage_type) is not _Type or type(key) is not str:
            raise TypeError
        if not storage_type.is_storage:
            raise TypeError
        _check_counts(count)
        whole = Storage(key, storage_type.dtype, count)
        if self.storages.setdefault(key, whole) != whole or key in self._views:
            raise ValueError(f"the storage {key!r} is described in two ways")
        return self._part(whole, rest[0]) if self._is_old and rest[0] is not None else whole

    def _part(self, whole: Storage, view: Any) -> Storage:
        """Return the part of a storage that a view with a key of its own describes."""
        if type(view) is not tuple or len(view) != 3 or type(view[0]) is not str:
            raise TypeError
        name, start, count = view
        _check_counts(start, count)
        part = Storage(whole.key, whole.dtype, count, start)
        if part.end > whole.end:
            raise ValueError(f"the storage {name!r} is beyond the storage {whole.key!r}")
        if self._views.setdefault(name, part) != part or name in self.storages:
            raise ValueError(f"the storage {name!r} is described in two ways")
        return part


def _size(lengths: Any) -> tuple[int, ...]:
    if type(lengths) is not tuple:
        raise TypeError
    _check_counts(*lengths)
    return lengths


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any) -> Tensor:
    if type(storage) is not Storage:
        raise TypeError
    return _view(storage, offset, shape, strides, storage.dtype)


def _view(storage: Any, offset: Any, shape: Any, strides: Any, dtype: str) -> Tensor:
    if type(storage) is not Storage or type(shape) is not tuple or type(strides) is not tuple:
        raise TypeError
    _check_counts(offset, *shape, *strides)
    if len(shape) != len(strides):
        raise TypeError
    if dtype != storage.dtype and storage.start:
        raise TypeError
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    elements = storage.count * SIZES[storage.dtype] // SIZES[dtype]
    if all(shape) and last >= elements:
        raise ValueError(
            f"a tensor of shape {list(shape[:8])} is beyond the {elements:,} elements of the "
            f"storage {storage.key!r}"
        )
    return Tensor(storage, dtype, offset, shape, strides)


def _tensor_v2(
    storage: Any,
    offset: Any,
    shape: Any,
    strides: Any,
    requires_grad: Any,
    hooks: Any,
    metadata: Any = None,
) -> Tensor:
    tensor = _tensor(storage, offset, shape, strides)
    return _checked(tensor, requires_grad, hooks, metadata)


def _tensor_v3(
    storage: Any,
    offset: Any,
    shape: Any,
    strides: Any,
    requires_grad: Any,
    hooks: Any,
    dtype: Any,
    metadata: Any = None,
) -> Tensor:
    """Return a tensor of a type without a storage type."""
    if type(dtype) is not _Type or dtype.is_storage:
        raise TypeError
    tensor = _view(storage, offset, shape, strides, dtype.dtype)
    return _checked(tensor, requires_grad, hooks, metadata)


def _parameter(tensor: Any, requires_grad: Any, hooks: Any) -> Tensor:
    if type(tensor) is not Tensor:
        raise TypeError
    return _checked(tensor, requires_grad, hooks)


def _parameter_with_state(tensor: Any, requires_grad: Any, hooks: Any, state: Any) -> Tensor:
    attributes = state if type(state) is tuple and len(state) == 2 else (state, None)
    for names in attributes:
        if type(names) not in (dict, type(None)) or not all(type(n) is str for n in names or ()):
            raise TypeError
        if any(name in _VALUES or name.startswith("__") for name in names or ()):
            raise ValueError("it contains a parameter whose attributes change it")
    return _parameter(tensor, requires_grad, hooks)


def _checked(tensor: Tensor, requires_grad: Any, hooks: Any, metadata: Any = None) -> Tensor:
    """Return the tensor. Raises TypeError for values that PyTorch does not accept, and for hooks,
    which it does not write.
    """
    has_gradient = tensor.dtype.startswith(("float", "bfloat", "complex"))
    if type(requires_grad) is not bool or (requires_grad and not has_gradient):
        raise TypeError
    if hooks is not None and (not isinstance(hooks, dict) or hooks):
        raise TypeError
    if metadata:
        raise ValueError("it contains a conjugated or negated view; save its clone()")
    return tensor


def _check_counts(*values: Any) -> None:
    for value in values:
        if type(value) is not int or not 0 <= value < 2**63:
            raise TypeError


_OLD_NAMES: dict[str, Any] = {
    "collections.OrderedDict": ordered_dict,
    "collections.Counter": counter,  # in the state of a learning rate's schedule
    "torch.Size": _size,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor_v2,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter_with_state,
    **{f"torch.{name}": _Type(dtype, is_storage=True) for name, dtype in STORAGES.items()},
    **{f"torch.{dtype}": _Type(dtype, is_storage=False) for dtype in SIZES},
}
_NAMES = {**_OLD_NAMES, "torch.storage.UntypedStorage": _Type("uint8", is_storage=True)}
