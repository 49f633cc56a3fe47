"""Shared code of formats with one labelled face or head per image: list a folder, check its images
and limit the number of bad ones.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from mtl_jax.data.readers.image_paths import inside
from mtl_jax.data.readers.labels import LabelReader
from mtl_jax.data.records import Box, Instance, Record
from mtl_jax.errors import AnnotationErrors, UserError
from mtl_jax.images import headers
from mtl_jax.images.decode import decode_with_notice
from mtl_jax.images.geometry import Size
from mtl_jax.images.limits import check_pixels, read_image_file

Item = TypeVar("Item")
EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
BAD_SHARE = 0.01  # maximum fraction of bad images; a folder with more is probably another data set


class Found(NamedTuple):
    """An image: its path relative to its folder, and its height and width in pixels."""

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
    """Return the record of an image with one face. The default box is the whole image."""
    name, height, width = found
    box = box or (0.0, 0.0, float(width), float(height))
    face = Instance(box, 1, id=position + 1, attributes=reader.read(labels)[0])
    return Record(inside(folder, name), width, height, position, name, (face,))


def list_images(folder: Path) -> list[str]:
    """Return the paths of all images below a folder, relative to it and sorted. Hidden files and
    folders are skipped.
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
    """Return the height and width of an image. Raises ValueError if the file is empty, truncated or
    not an image.
    """
    try:
        data = read_image_file(path)
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror})") from None
    if not data:
        raise ValueError("the file is empty")
    if headers.is_truncated(data):
        raise ValueError("the image is truncated")
    size = headers.displayed_size(data)
    if size is None:
        height, width = decode_with_notice(data)[0].shape[:2]
        size = int(height), int(width)
    check_pixels(*size)
    return size


def read_folder(
    folder: Path, read: Callable[[str], Item], expected: str, on_error: str
) -> tuple[list[Item], tuple[str, ...]]:
    """Return `read(name)` for each image below a folder, and a line for each ValueError that it
    raises.

    Raises UserError if there are no images, all are bad, or more than 1 % are bad (any number is
    allowed with `on_error="skip"`). `expected` describes the file names in messages.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    names = list_images(folder)
    if not names:
        raise UserError(f"{folder}: contains no images; expected {expected}")
    good: list[Item] = []
    faults = []
    for name in names:
        try:
            good.append(read(name))
        except ValueError as error:
            faults.append(f"{folder / name}: {error}")
    if not good:
        raise UserError(
            f"{folder}: none of its {len(names)} images can be used; expected {expected}; "
            f"the first fault: {faults[0]}"
        )
    if len(faults) > BAD_SHARE * len(names) and on_error != "skip":
        summary = (
            f"{folder}: {len(faults)} of its {len(names)} images cannot be used, more than "
            f"{BAD_SHARE:.0%}; expected {expected}; correct or remove them, or "
            'set config.data.on_error="skip"'
        )
        raise AnnotationErrors([*faults, summary] if faults[1:] else [f"{summary}; {faults[0]}"])
    return good, tuple(faults)


def check_labels(
    place: Path, items: Sequence[tuple[str, dict]], reader: LabelReader, on_error: str
) -> tuple[str, ...]:
    """Return a line for each label that the config's attributes do not allow. `items` are pairs
    (name, labels) of `place`, a folder or a table.

    Raises UserError if there is such a label, unless `on_error="skip"`, which ignores the label.
    """
    faults = [(name, fault) for name, labels in items for fault in reader.read(labels)[1]]
    if faults and on_error != "skip":
        raise UserError(
            f"{place}: {len(faults)} labels are not allowed by config.attributes; the first, "
            f"{faults[0][0]}: {faults[0][1]}; change the attribute, remove the labels, or set "
            'config.data.on_error="skip"'
        )
    return tuple(f"{place}: {name}: {fault}" for name, fault in faults)
