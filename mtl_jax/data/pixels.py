"""Read the pixels of records and apply their deferred changes."""

from dataclasses import replace

import numpy as np

from mtl_jax.data.records import Record, named
from mtl_jax.images.decode import decode, decode_with_notice, to_channels
from mtl_jax.images.geometry import Size


def materialize(record: Record) -> Record:
    """Return the record with its deferred changes applied to pixels and labels.

    Raises UserError that names the record if a change fails.
    """
    if not record.deferred:
        return record
    with named(record):
        changed = replace(record, deferred=())
        for change in record.deferred:
            changed = change(changed)
        return changed


def read_pixels(record: Record, channels: int) -> np.ndarray:
    """Return a record's pixels `[H, W, channels]` with its deferred changes applied.

    Raises ValueError if their size differs from the annotated size.
    """
    record = materialize(record)
    if isinstance(record.image, np.ndarray):
        image = to_channels(record.image, channels)
    else:
        image = decode(record.image, channels, levels=record.levels, name=record.place)
    check_size(record, image.shape[:2])
    return image


def own_pixels(record: Record) -> np.ndarray:
    """Return a record's pixels `[H, W, C]` with the channels they have; files are read as RGB.

    Deferred changes are not applied. Raises UserError that names the file if it cannot be read.
    """
    if isinstance(record.image, np.ndarray):
        return record.image
    with named(record):
        return decode(record.image, levels=record.levels, name=record.place)


def notice_of(record: Record, channels: int) -> str:
    """Return what is unusual about the pixels of a record's file, such as damage, or ''.

    Raises UserError that names the file if it cannot be read.
    """
    if isinstance(record.image, np.ndarray):
        return ""
    with named(record):
        notice = decode_with_notice(record.image, channels, record.levels)[1]
    return f"{record.place}: {notice}" if notice else ""


def check_size(record: Record, size: Size) -> None:
    """Raise ValueError if `size` (height, width) differs from the annotated size of the record."""
    if size != (record.height, record.width):
        raise ValueError(
            f"the image is {size[1]} x {size[0]} pixels, but it is "
            f"annotated as {record.width} x {record.height} (width x height)"
        )
