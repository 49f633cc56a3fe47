"""What every format is read into, and every transform starts from: a picture and the things
annotated on it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from mtl_jax.errors import UserError
from mtl_jax.images.decode import decode
from mtl_jax.images.geometry import Turn

Box = tuple[float, float, float, float]  # x1, y1, x2, y2
Frame = tuple[int, int, int, int]  # a box of whole pixels, within its picture
Key = int | str  # an image id or a file name
Segmentation = list[list[float]] | dict[str, Any] | np.ndarray | None


class Category(NamedTuple):
    """A class as its data set numbers it; the model's class of the i-th category is i + 1."""

    id: int
    name: str


@dataclass(frozen=True)
class Instance:
    """One thing on a picture, in the picture's own pixels.

    `segmentation` is COCO's polygons, COCO's RLE (counts as text, bytes or list), a boolean array
    of the whole picture, or None where only the box is known. `attributes` holds labels as
    annotated; a missing key is a missing label.
    """

    box: Box
    label: int  # the model's class, 1 .. K-1
    segmentation: Segmentation = None
    crowd: bool = False
    area: float | None = None  # COCO's area in square pixels, None: the box's or the mask's
    id: int = 0
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """One picture. `image` is where it lies, the bytes of its file, or the pixels themselves (uint8
    H x W x C, RGB).
    """

    image: Path | bytes | np.ndarray
    width: int
    height: int
    image_id: int | str
    file_name: str
    instances: tuple[Instance, ...] = ()
    exhaustive: bool = True  # False: things of these classes stand in the picture without a label
    region: Frame | None = None  # what of the picture is seen; None: all
    turn: Turn | None = None  # that the picture makes first, its things with it, but for masks

    @property
    def frame(self) -> Frame:
        return self.region or (0, 0, self.width, self.height)

    @property
    def place(self) -> str:
        """Where the picture lies, or its name, for messages."""
        return str(self.image) if isinstance(self.image, Path) else self.file_name


@contextmanager
def named(record: Record) -> Iterator[None]:
    """Turn what goes wrong with a record's picture or labels into a UserError that names it."""
    try:
        yield
    except (ValueError, OSError) as error:
        said = f"cannot be read ({error.strerror})" if isinstance(error, OSError) else error
        raise UserError(f"{record.place}: {said}") from error


def pixels_of(record: Record) -> np.ndarray:
    """Give a record's picture, read where it is a file. Raises UserError where it cannot be."""
    if isinstance(record.image, np.ndarray):
        return record.image
    with named(record):
        return decode(record.image)


@runtime_checkable
class Source(Protocol):
    """Any object that gives records by position, with the categories that their labels index."""

    categories: tuple[Category, ...]

    def __len__(self) -> int: ...

    def __getitem__(self, position: int) -> Record: ...

    def group(self, position: int) -> str:
        """Name what the record must not be parted from when the source is split: a person, a
        photograph.
        """
        ...


@runtime_checkable
class Keyed(Protocol):
    """A source whose records have a name that stays when others come or go."""

    def key(self, position: int) -> Key: ...


@runtime_checkable
class Named(Protocol):
    """A source whose pictures have files, while its keys are numbers."""

    def name(self, position: int) -> str: ...


@runtime_checkable
class Chips(Protocol):
    """A source of aligned faces, one a picture."""

    def pictures(self) -> Sequence[Path | np.ndarray]:
        """Give the file of each record's picture, or its gray pixels `[H, W]`."""
        ...


@runtime_checkable
class Redrawn(Protocol):
    """A source whose records are drawn anew each time that they come in training."""

    def draw(self, position: int, rng: np.random.Generator) -> Record: ...


def overlaps(boxes: np.ndarray, gt_boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give the IoU `[D, M]` and the share of each box that lies in each instance's box `[D, M]`; 0
    for empty boxes.
    """
    boxes = np.reshape(boxes, (-1, 4)).astype(np.float64)[:, None]
    others = np.reshape(gt_boxes, (-1, 4)).astype(np.float64)[None]
    sides = np.minimum(boxes[..., 2:], others[..., 2:]) - np.maximum(
        boxes[..., :2], others[..., :2]
    )
    common = np.clip(sides, 0, None).prod(-1)
    area = np.clip(boxes[..., 2:] - boxes[..., :2], 0, None).prod(-1)
    union = area + np.clip(others[..., 2:] - others[..., :2], 0, None).prod(-1) - common
    iou = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    share = np.divide(common, area, out=np.zeros_like(common), where=area > 0)
    return iou, share
