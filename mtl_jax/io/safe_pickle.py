"""A reader of pickles that can neither import nor call anything but what its caller lists."""

import os
import pickle
import struct
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

MAX_BYTES, MAX_STEPS = 2**24, 1_000_000
_LONGEST_NAME = 256
_LARGEST_KEY = 2**60  # larger integers can be chosen so that their hashes are equal


class OrderedDict(dict):
    """Stand-in for an OrderedDict. Attributes that a pickle sets are not kept."""

    __slots__ = ()


class Unpickler:
    """Reads numbers, text, collections, and calls of `names`, which maps names such as
    "torch.Size" to functions and constants; `refer` converts persistent ids.

    The instructions are those of protocol 2. Python's own reader has others, allocates a table up
    to the largest number of an object, and hashes keys that are nested without limit.
    """

    def __init__(
        self,
        file: BinaryIO,
        names: Mapping[str, Any],
        refer: Callable[[Any], Any] | None = None,
    ):
        self._file, self._names, self._refer = file, names, refer
        start = file.tell()
        # What is left; reading allocates as many bytes as a text claims to have.
        self._bytes = min(file.seek(0, os.SEEK_END) - start, MAX_BYTES)
        self._steps = MAX_STEPS
        file.seek(start)
        self._stack: list[Any] = []
        self._marked: list[list[Any]] = []  # stacks below the marks
        self._memo: dict[int, Any] = {}
        self._actions: dict[bytes, Callable[[], Any]] = {
            pickle.PROTO: self._byte,
            pickle.NONE: lambda: self._push(None),
            pickle.NEWTRUE: lambda: self._push(True),
            pickle.NEWFALSE: lambda: self._push(False),
            pickle.BININT: lambda: self._push(self._number("<i")),
            pickle.BININT1: lambda: self._push(self._byte()),
            pickle.BININT2: lambda: self._push(self._number("<H")),
            pickle.LONG1: self._long,
            pickle.BINFLOAT: lambda: self._push(self._number(">d")),
            pickle.BINUNICODE: lambda: self._push(self._take(self._number("<I")).decode()),
            pickle.SHORT_BINSTRING: lambda: self._push(self._take(self._byte()).decode()),
            pickle.EMPTY_DICT: lambda: self._push({}),
            pickle.EMPTY_LIST: lambda: self._push([]),
            pickle.EMPTY_TUPLE: lambda: self._push(()),
            pickle.TUPLE1: lambda: self._short_tuple(1),
            pickle.TUPLE2: lambda: self._short_tuple(2),
            pickle.TUPLE3: lambda: self._short_tuple(3),
            pickle.MARK: self._mark,
            pickle.TUPLE: lambda: self._push(tuple(self._since_mark())),
            pickle.APPEND: lambda: self._extend([self._stack.pop()]),
            pickle.APPENDS: lambda: self._extend(self._since_mark()),
            pickle.SETITEM: self._set_item,
            pickle.SETITEMS: lambda: self._update(self._since_mark()),
            pickle.BINPUT: lambda: self._put(self._byte()),
            pickle.LONG_BINPUT: lambda: self._put(self._number("<I")),
            pickle.BINGET: lambda: self._push(self._memo[self._byte()]),
            pickle.LONG_BINGET: lambda: self._push(self._memo[self._number("<I")]),
            pickle.GLOBAL: self._global,
            pickle.REDUCE: self._reduce,
            pickle.BUILD: self._build,
            pickle.BINPERSID: self._persistent,
        }

    def load(self) -> Any:
        """Return the pickled object.

        Raises ValueError if the pickle is damaged, too large, or uses a name that is not listed.
        """
        try:
            while (step := self._take(1)) != pickle.STOP:
                self._spend(1)
                if step not in self._actions:
                    raise ValueError(f"the pickle has an instruction that is not read: {step!r}")
                self._actions[step]()
            if len(self._stack) != 1 or self._marked:
                raise TypeError
        except (LookupError, TypeError, UnicodeDecodeError):
            raise ValueError("the pickle is damaged") from None
        return self._stack[0]

    def _spend(self, steps: int) -> None:
        """Count steps, and elements that a step copies."""
        self._steps -= steps
        if self._steps < 0:
            raise ValueError(f"the pickle has more than {MAX_STEPS:,} steps")

    def _take(self, count: int) -> bytes:
        self._bytes -= count
        if self._bytes < 0:
            raise ValueError(f"the pickle is truncated, or has more than {MAX_BYTES:,} bytes")
        data = self._file.read(count)
        if len(data) < count:
            raise ValueError("the pickle is truncated")
        return data

    def _byte(self) -> int:
        return self._take(1)[0]

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _line(self) -> str:
        line = self._file.readline(_LONGEST_NAME)
        self._bytes -= len(line)
        if not line.endswith(b"\n"):
            raise TypeError
        return line[:-1].decode()

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _put(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    def _long(self) -> None:
        self._push(int.from_bytes(self._take(self._byte()), "little", signed=True))

    def _mark(self) -> None:
        self._marked.append(self._stack)
        self._stack = []

    def _since_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._marked.pop()
        return items

    def _short_tuple(self, length: int) -> None:
        if len(self._stack) < length:
            raise LookupError
        self._stack[-length:] = [tuple(self._stack[-length:])]

    def _extend(self, items: list[Any]) -> None:
        if type(self._stack[-1]) is not list:
            raise TypeError
        self._stack[-1].extend(items)

    def _set_item(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._update([key, value])

    def _update(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise TypeError
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_checked(key)] = value

    def _global(self) -> None:
        name = f"{self._line()}.{self._line()}"
        if name not in self._names:
            raise ValueError(f"the pickle uses {name!r}, which is not allowed")
        self._push(self._names[name])

    def _reduce(self) -> None:
        arguments, function = self._stack.pop(), self._stack[-1]
        if type(arguments) is not tuple or not callable(function):
            raise TypeError
        self._spend(sum(len(x) for x in arguments if isinstance(x, list | tuple | dict)))
        self._stack[-1] = function(*arguments)

    def _build(self) -> None:
        state = self._stack.pop()
        if type(state) is not dict or type(self._stack[-1]) is not OrderedDict:
            raise TypeError

    def _persistent(self) -> None:
        if self._refer is None:
            raise TypeError
        self._push(self._refer(self._stack.pop()))


def ordered_dict(pairs: Any = ()) -> OrderedDict:
    """Return an OrderedDict of the items that pickles of Python 2 contain, or an empty one."""
    if type(pairs) not in (list, tuple):
        raise TypeError
    if not all(type(pair) in (list, tuple) and len(pair) == 2 for pair in pairs):
        raise TypeError
    return OrderedDict((_checked(key), value) for key, value in pairs)


def counter(counts: Any) -> dict[Any, Any]:
    """Return a Counter as a dict."""
    if type(counts) is not dict:
        raise TypeError
    return dict(counts)


def _checked(key: Any) -> Any:
    """Return a key of a dict. Others than numbers and text could take long to hash or compare."""
    is_small = type(key) is int and abs(key) < _LARGEST_KEY
    if not is_small and type(key) not in (str, float, bool, type(None)):
        raise TypeError
    return key
