"""Read records with a Python file of the user, for data in no other format.

The file's `open_source(**options)` returns an object with `categories`, `__len__` and
`__getitem__`, which returns a `Record`. Optional methods are `group(position)`, for records that
must stay in one split (of one person or photograph), and `key(position)`, a name that stays the
same when other records are added or removed. An instance's `attributes` are its labels as
annotated; they are parsed here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from mtl_jax.attributes.base import Attribute, parse_labels
from mtl_jax.data.readers.annotation_tools.coco_shapes import SLACK
from mtl_jax.data.readers.format import Block, Format, Labels
from mtl_jax.data.records import Category, Key, Record, Source
from mtl_jax.errors import UserError
from mtl_jax.io.user_module import load_module, user_code_errors


@runtime_checkable
class Records(Protocol):
    """The interface of the object that `open_source` must return."""

    categories: tuple[Category, ...]

    def __len__(self) -> int: ...

    def __getitem__(self, position: int) -> Record: ...


@dataclass(frozen=True)
class Refuse:
    """A change for `Record.deferred` that raises ValueError, since the record has a wrong label."""

    fault: str

    def __call__(self, record: Record) -> Record:
        raise ValueError(self.fault)


@runtime_checkable
class Keyed(Protocol):
    """The interface of records with names."""

    def key(self, position: int) -> Key: ...


@runtime_checkable
class Grouped(Protocol):
    """The interface of records with groups, each of which stays in one split."""

    def group(self, position: int) -> str: ...


class PythonSource(Source):
    """The source that a file's `open_source(**options)` returns.

    Raises UserError that names the file if it returns no source, the line if its code fails, and
    the record if that is invalid.
    """

    def __init__(
        self, path: Path, options: Mapping[str, Any], attributes: Sequence[Attribute] = ()
    ):
        if not path.is_file() or path.suffix != ".py":
            raise UserError(f"{path}: no such Python file; set path to a file with open_source()")
        self.path, self._options, self._attributes = path, dict(options), tuple(attributes)
        module = load_module(path)
        if not hasattr(module, "open_source"):
            raise UserError(f"{path}: requires open_source(), which returns the source")
        with user_code_errors(path):
            records = module.open_source(**self._options)
        if not isinstance(records, Records):
            raise UserError(
                f"{path}: open_source() must return an object with categories, __len__ and "
                f"__getitem__, got {type(records).__name__!r}"
            )
        if not all(isinstance(each, Category) for each in records.categories):
            raise UserError(
                f'{path}: categories must be like Category(1, "a"), got {records.categories!r}'
            )
        self._records, self.categories = records, tuple(records.categories)
        self._keys = self._read_keys()

    def _read_keys(self) -> list[Key]:
        records = self._records
        with user_code_errors(self.path):
            if not isinstance(records, Keyed):
                return list(range(len(records)))
            keys = [records.key(position) for position in range(len(records))]
        seen: dict[Key, int] = {}
        for position, key in enumerate(keys):
            if not isinstance(key, int | str) or seen.setdefault(key, position) != position:
                raise UserError(
                    f"{self.path}: record {position} has the key {key!r}; keys must be unique text "
                    "or whole numbers"
                )
        return keys

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker process runs the file again, since pickle cannot import the classes in it.
        return type(self), (self.path, self._options, self._attributes)

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, position: int) -> Record:
        with user_code_errors(self.path):
            record = self._records[position]
        if not isinstance(record, Record):
            raise UserError(
                f"{self.path}: record {position} must be a mtl_jax.data.records.Record, got "
                f"{type(record).__name__!r}"
            )
        for instance in record.instances:
            if not _is_within(instance.box, record.width, record.height):
                raise UserError(
                    f"{self.path}: record {position} has the box {instance.box}; a box must be x1, "
                    f"y1, x2, y2 within the image of {record.width} x {record.height} pixels"
                )
            if instance.label not in range(1, len(self.categories) + 1):
                raise UserError(
                    f"{self.path}: record {position} has the label {instance.label!r}; a label "
                    f"must be a position in categories, 1 to {len(self.categories)}"
                )
        try:
            parsed = tuple(
                replace(each, attributes=parse_labels(self._attributes, each.attributes))
                for each in record.instances
            )
        except ValueError as error:
            # The fault is raised when the record is read for a batch, where it can be skipped, and
            # not when its size is read.
            return replace(record, deferred=(*record.deferred, Refuse(str(error))))
        return replace(record, instances=parsed)

    def group(self, position: int) -> str:
        records = self._records
        if not isinstance(records, Grouped):
            return str(position)
        with user_code_errors(self.path):
            return str(records.group(position))

    def key(self, position: int) -> Key:
        return self._keys[position]


def _is_within(box: Any, width: int, height: int) -> bool:
    try:
        x1, y1, x2, y2 = map(float, box)
    except (TypeError, ValueError):
        return False
    return -SLACK <= x1 < x2 <= width + SLACK and -SLACK <= y1 < y2 <= height + SLACK


def open_python(folder: Path, block: Block, labels: Labels) -> Source:
    del folder
    return PythonSource(Path(block["path"]), block["options"], labels.attributes)


FORMAT = Format(open_python, {"options": {}}, code=lambda block: f"the Python file {block['path']}")
