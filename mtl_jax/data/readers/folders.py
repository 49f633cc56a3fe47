"""What the formats share whose labels are the names of files: pictures looked at one by one, and
how many may be bad.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from mtl_jax.data.readers.labels import LabelReader
from mtl_jax.data.records import Box, Instance, Record
from mtl_jax.errors import AnnotationErrors, UserError
from mtl_jax.images import headers
from mtl_jax.images.decode import decode
from mtl_jax.images.geometry import Size

Item = TypeVar("Item")
EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
BAD_SHARE = 0.01  # of a folder's pictures may be bad; with more it is probably another data set


class Found(NamedTuple):
    """A picture of a folder: its path below it, and its height and width."""

    name: str
    height: int
    width: int


def face_record(
    folder: Path,
    found: Found,
    position: int,
    labels: dict[str, Any],
    reader: LabelReader,
    box: Box | None = None,
) -> Record:
    """Give the record of a picture with one face, whose box is by default the whole picture."""
    name, height, width = found
    box = box or (0.0, 0.0, float(width), float(height))
    face = Instance(box, 1, id=position + 1, attributes=reader.read(labels)[0])
    return Record(folder / name, width, height, position, name, (face,))


def list_pictures(folder: Path) -> list[str]:
    """Give the paths of all pictures below a folder, relative to it, sorted; hidden ones are
    not.
    """
    names = []
    for parent, directories, files in os.walk(folder):
        directories[:] = [name for name in directories if not name.startswith(".")]
        below = Path(parent).relative_to(folder)
        names += [
            (below / name).as_posix()
            for name in files
            if name.lower().endswith(EXTENSIONS) and not name.startswith(".")
        ]
    return sorted(names)


def look_at(path: Path) -> Size:
    """Give a picture's height and width. Raises ValueError where it is empty, cut off or no
    picture.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from None
    if not data:
        raise ValueError("the file is empty")
    if headers.is_truncated(data):
        raise ValueError("the picture is truncated")
    size = headers.displayed_size(data)
    if size is None:
        height, width = decode(data).shape[:2]
        size = int(height), int(width)
    return size


def read_folder(
    folder: Path, read: Callable[[str], Item], wanted: str, on_error: str
) -> tuple[list[Item], tuple[str, ...]]:
    """Give what `read` makes of each picture below a folder, and a line for each that it raises
    ValueError at.

    Raises UserError where there is no picture, none is good, or more than 1 % are bad (with
    `on_error="skip"` any number may be). `wanted` says how pictures are named.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    names = list_pictures(folder)
    if not names:
        raise UserError(f"{folder}: holds no picture; expected {wanted}")
    good: list[Item] = []
    faults = []
    for name in names:
        try:
            good.append(read(name))
        except ValueError as error:
            faults.append(f"{folder / name}: {error}")
    if not good:
        raise UserError(
            f"{folder}: none of its {len(names)} pictures can be used; expected {wanted}; "
            f"the first: {faults[0]}"
        )
    if len(faults) > BAD_SHARE * len(names) and on_error != "skip":
        summary = (
            f"{folder}: {len(faults)} of its {len(names)} pictures cannot be used, more than "
            f"{BAD_SHARE:.0%}; expected {wanted}; mend or remove them, or "
            'set config.data.on_error="skip"'
        )
        raise AnnotationErrors([*faults, summary] if faults[1:] else [f"{summary}; {faults[0]}"])
    return good, tuple(faults)


def check_labels(
    place: Path, items: Sequence[tuple[str, dict]], reader: LabelReader, on_error: str
) -> tuple[str, ...]:
    """Give a line for each of the labels of (name, labels) at `place`, a folder or a table, that
    the config's attributes do not allow. Raises UserError where there are such, unless
    `on_error="skip"` leaves them out.
    """
    faults = [(name, fault) for name, labels in items for fault in reader.read(labels)[1]]
    if faults and on_error != "skip":
        raise UserError(
            f"{place}: the labels of {len(faults)} pictures do not fit config.attributes; the "
            f"first, {faults[0][0]}: {faults[0][1]}; change the attribute, or remove them, or set "
            'config.data.on_error="skip"'
        )
    return tuple(f"{place}: {name}: {fault}" for name, fault in faults)
