"""Records from a Python file of the user's: data that lies as no format says.

The file's `open_source(**options)` gives an object with `categories`, `__len__` and `__getitem__`,
which returns a `Record`; also with `group(position)` where some records must not be parted, being
of one person or photograph, and with `key(position)`, a name that stays when others come or go.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from mtl_jax.data.records import Category, Key, Keyed, Record
from mtl_jax.errors import UserError
from mtl_jax.python_files import blamed, load_module


@runtime_checkable
class Records(Protocol):
    """What `open_source` must give."""

    categories: tuple[Category, ...]

    def __len__(self) -> int: ...

    def __getitem__(self, position: int) -> Record: ...


@runtime_checkable
class Grouped(Protocol):
    """Records of which some must not be parted."""

    def group(self, position: int) -> str: ...


class PythonSource:
    """The source that a file's `open_source(**options)` gives.

    Raises UserError that names the file where it gives none, and its record where that is wrong.
    """

    def __init__(self, path: Path, options: Mapping[str, Any]):
        if not path.is_file():
            raise UserError(f"{path}: no such file; set path to a Python file with open_source()")
        self.path, self._options = path, dict(options)
        module = load_module(path)
        if not hasattr(module, "open_source"):
            raise UserError(f"{path}: has no open_source(), which gives the source")
        with blamed(path):
            records = module.open_source(**self._options)
        if not isinstance(records, Records):
            raise UserError(
                f"{path}: open_source() gives {type(records).__name__!r}, which lacks one of "
                "categories, __len__ and __getitem__"
            )
        self._records = records
        self.categories = tuple(Category(*each) for each in records.categories)

    def __reduce__(self) -> tuple[Any, ...]:
        # A process that makes batches runs the file itself: classes in it have no module to be
        # found by.
        return type(self), (self.path, self._options)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, position: int) -> Record:
        record = self._records[position]
        if not isinstance(record, Record):
            raise UserError(
                f"{self.path}: record {position} is {type(record).__name__!r} and must be a "
                "mtl_jax.data.records.Record"
            )
        for instance in record.instances:
            if not 1 <= instance.label <= len(self.categories):
                raise UserError(
                    f"{self.path}: record {position} has the label {instance.label!r}; labels are "
                    f"1 to {len(self.categories)}, the positions in categories"
                )
        return record

    def group(self, position: int) -> str:
        records = self._records
        return str(records.group(position)) if isinstance(records, Grouped) else str(position)

    def key(self, position: int) -> Key:
        records = self._records
        return records.key(position) if isinstance(records, Keyed) else position
