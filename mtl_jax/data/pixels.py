"""The pixels of a record."""

import numpy as np

from mtl_jax.data.records import Record
from mtl_jax.images.decode import decode, to_channels
from mtl_jax.images.geometry import Size


def read_pixels(record: Record, channels: int) -> np.ndarray:
    """Give a record's pixels `[H, W, channels]`; ValueError if their size is not as annotated."""
    if isinstance(record.image, np.ndarray):
        image = to_channels(record.image, channels)
    else:
        image = decode(record.image, channels)
    check_size(record, image.shape[:2])
    return image


def check_size(record: Record, size: Size) -> None:
    """Raise ValueError where a picture's height and width are not those of its record."""
    if size != (record.height, record.width):
        raise ValueError(
            f"the picture is {size[1]} x {size[0]} pixels, "
            f"annotated as {record.width} x {record.height} (width x height)"
        )
