"""Records: the common representation of an annotated image. Every reader returns them and every
transform starts from them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mtl_jax.attributes.base import Attribute, Label
from mtl_jax.errors import UserError
from mtl_jax.images.decode import ALL_LEVELS, Levels
from mtl_jax.images.geometry import Turn

Box = tuple[float, float, float, float]  # x1, y1, x2, y2
Frame = tuple[int, int, int, int]  # a box of whole pixels inside its image
Key = int | str  # an image id or a file name
Segmentation = list[list[float]] | dict[str, Any] | np.ndarray | None


Change = Callable[["Record"], "Record"]


class Category(NamedTuple):
    """A class with its id in the data set. The model's index of the i-th category is i + 1."""

    id: int
    name: str


@dataclass(frozen=True)
class Instance:
    """One annotated instance, in pixels of the original image.

    `segmentation` is a list of COCO polygons, a COCO RLE (counts as text, bytes or list), a boolean
    array of the whole image, or None if only the box is annotated. `attributes` contains the parsed
    labels of the declared attributes by name; a missing key is a missing label.
    """

    box: Box
    label: int  # the model's class index, 1 .. K-1
    segmentation: Segmentation = None
    crowd: bool = False
    area: float | None = None  # COCO's area in square pixels; None: that of the mask or the box
    id: int = 0
    attributes: Mapping[str, Label] = field(default_factory=dict)

    def label_of(self, attribute: Attribute) -> Label:
        """Return the label of `attribute`: values `[V]`, known `[V]`."""
        return self.attributes.get(attribute.name) or attribute.missing


@dataclass(frozen=True)
class Record:
    """One annotated image. `image` is the path of its file, the bytes of its file, or its pixels
    (uint8 `[H, W, C]`, RGB).
    """

    image: Path | bytes | np.ndarray
    width: int
    height: int
    image_id: int | str
    file_name: str
    instances: tuple[Instance, ...] = ()
    exhaustive: bool = True  # False: some objects of these classes are not annotated
    unlabelled: tuple[int, ...] = ()  # classes, as indices, that are not annotated in this image
    # Classes of annotated objects that are left out because of a fault; 0: not used or unknown.
    dropped: tuple[int, ...] = ()
    ignored: tuple[Box, ...] = ()  # boxes of objects that are neither instances nor background
    region: Frame | None = None  # the visible part of the image; None: all of it
    # In-plane rotation that is applied first; boxes and labels follow, masks do not.
    turn: Turn | None = None
    # Changes of pixels and labels that `pixels.materialize` applies when the pixels are read.
    deferred: tuple["Change", ...] = ()
    levels: Levels = ALL_LEVELS  # values of a 16-bit image that become 0 and 255

    @property
    def frame(self) -> Frame:
        """The visible part of the image: the region, or the whole image."""
        return self.region or (0, 0, self.width, self.height)

    @property
    def place(self) -> str:
        """The path of the image, or its name if it has none, for messages."""
        return str(self.image) if isinstance(self.image, Path) else self.file_name


@contextmanager
def named(record: Record) -> Iterator[None]:
    """Convert a ValueError or OSError raised in the block to a UserError that names the record."""
    try:
        yield
    except (ValueError, OSError) as error:
        fault = f"cannot be read ({error.strerror})" if isinstance(error, OSError) else error
        raise UserError(f"{record.place}: {fault}") from error


class Source:
    """A sequence of records, with the categories that their labels index. The base class of all
    sources; it declares everything a source provides besides its records.
    """

    categories: tuple[Category, ...] = ()
    skipped: tuple[str, ...] = ()  # one line for each record or label that was left out
    undeclared: tuple[str, ...] = ()  # one line for each annotated label without an attribute
    image_folder: Path | None = None  # below which its images are, if they are files
    notes: tuple[str, ...] = ()  # what was done to read the records, one line each
    is_drawn: bool = False  # records are drawn or composed when they are read
    licence: str = ""  # of the images, if the data states it

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, position: int) -> Record:
        raise NotImplementedError

    def draw(self, position: int, rng: np.random.Generator) -> Record:
        """Return the record for training; it may be random."""
        return self[position]

    def group(self, position: int) -> str:
        """Return the name of the record's group, such as a person or a photograph; all records of
        a group belong to the same split. By default every record is its own group.
        """
        return str(position)

    def key(self, position: int) -> Key:
        """Return the record's key in stored splits, which does not depend on the other records."""
        return position

    def name(self, position: int) -> Key:
        """Return a name that the record shares with its copies in other sources, such as the name
        of the image file.
        """
        return self.key(position)

    def chips(self) -> Sequence[Path | np.ndarray] | None:
        """Return the image file or the gray pixels `[H, W]` of each record if every image is one
        aligned face; otherwise None.
        """
        return None


class Wrapper(Source):
    """A source that reorders or changes the records of another source."""

    def __init__(self, source: Source):
        self.source = source
        self.categories = tuple(source.categories)
        self.skipped, self.undeclared = source.skipped, source.undeclared
        self.notes, self.is_drawn, self.licence = source.notes, source.is_drawn, source.licence

    def inner(self, position: int) -> int:
        """Return the record's position in the wrapped source."""
        return position

    def change(self, record: Record) -> Record:
        """Return the record with this source's changes."""
        return record

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, position: int) -> Record:
        return self.change(self.source[self.inner(position)])

    def draw(self, position: int, rng: np.random.Generator) -> Record:
        return self.change(self.source.draw(self.inner(position), rng))

    def group(self, position: int) -> str:
        return self.source.group(self.inner(position))

    def key(self, position: int) -> Key:
        return self.source.key(self.inner(position))

    def name(self, position: int) -> Key:
        return self.source.name(self.inner(position))

    def chips(self) -> Sequence[Path | np.ndarray] | None:
        chips = self.source.chips()
        return None if chips is None else [chips[self.inner(i)] for i in range(len(self))]


def overlaps(boxes: np.ndarray, gt_boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the IoU `[D, M]` of `boxes` and `gt_boxes`, and the fraction `[D, M]` of each box
    that each ground-truth box covers. Both are 0 for empty boxes.
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
