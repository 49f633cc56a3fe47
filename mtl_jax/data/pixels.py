"""The pixels of a record."""

from dataclasses import replace

import numpy as np

from mtl_jax.data.records import Record, named
from mtl_jax.images.decode import decode, to_channels
from mtl_jax.images.geometry import Size


def materialize(record: Record) -> Record:
    """Return the record with its deferred changes made: new pixels and labels.

    Raises UserError that names the record where a change cannot be made.
    """
    if not record.deferred:
        return record
    with named(record):
        changed = replace(record, deferred=())
        for change in record.deferred:
            changed = change(changed)
        return changed


def read_pixels(record: Record, channels: int) -> np.ndarray:
    """Return a record's pixels `[H, W, channels]`, deferred changes made.

    Raises ValueError where their size is not as annotated.
    """
    record = materialize(record)
    if isinstance(record.image, np.ndarray):
        image = to_channels(record.image, channels)
    else:
        image = decode(record.image, channels)
    check_size(record, image.shape[:2])
    return image


def own_pixels(record: Record) -> np.ndarray:
    """Return a record's pixels in the channels that it has, a file's as RGB.

    Deferred changes are not made. Raises UserError that names the file where it cannot be read.
    """
    if isinstance(record.image, np.ndarray):
        return record.image
    with named(record):
        return decode(record.image)


def check_size(record: Record, size: Size) -> None:
    """Raise ValueError where an image's height and width are not those of its record."""
    if size != (record.height, record.width):
        raise ValueError(
            f"the picture is {size[1]} x {size[0]} pixels, "
            f"annotated as {record.width} x {record.height} (width x height)"
        )
