"""What every format is read into, and every transform starts from: a picture and the things
annotated on it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mtl_jax.attributes.base import Attribute, Label
from mtl_jax.errors import UserError
from mtl_jax.images.geometry import Turn

Box = tuple[float, float, float, float]  # x1, y1, x2, y2
Frame = tuple[int, int, int, int]  # a box of whole pixels, within its picture
Key = int | str  # an image id or a file name
Segmentation = list[list[float]] | dict[str, Any] | np.ndarray | None


Change = Callable[["Record"], "Record"]


class Category(NamedTuple):
    """A class as its data set numbers it; the model's class of the i-th category is i + 1."""

    id: int
    name: str


@dataclass(frozen=True)
class Instance:
    """One thing on a picture, in the picture's own pixels.

    `segmentation` is COCO's polygons, COCO's RLE (counts as text, bytes or list), a boolean array
    of the whole picture, or None where only the box is known. `attributes` holds the labels of the
    declared attributes, parsed; a missing key is a missing label.
    """

    box: Box
    label: int  # the model's class, 1 .. K-1
    segmentation: Segmentation = None
    crowd: bool = False
    area: float | None = None  # COCO's area in square pixels, None: the box's or the mask's
    id: int = 0
    attributes: Mapping[str, Label] = field(default_factory=dict)

    def label_of(self, attribute: Attribute) -> Label:
        """Return the label of `attribute`, (values `[V]`, known `[V]`)."""
        return self.attributes.get(attribute.name) or attribute.missing


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
    # Changes of pixels and labels that are made when the pixels are read, by `pixels.materialize`.
    deferred: tuple["Change", ...] = ()

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


class Source:
    """Records by position, with the categories that their labels index. Every source derives from
    it, and says here what it offers beyond its records.
    """

    categories: tuple[Category, ...] = ()
    skipped: tuple[str, ...] = ()  # a line for each record, or label, that was left out
    undeclared: tuple[str, ...] = ()  # a line for each annotated label that no attribute reads

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, position: int) -> Record:
        raise NotImplementedError

    def draw(self, position: int, rng: np.random.Generator) -> Record:
        """Return the record as training sees it, which may differ each time."""
        return self[position]

    def group(self, position: int) -> str:
        """Name what must stay in one split: a person, a photograph. By default, the record."""
        return str(position)

    def key(self, position: int) -> Key:
        """Name the record in stored splits, whatever other records come or go."""
        return position

    def name(self, position: int) -> Key:
        """Name what the record and its copies in other sources share, such as the image's file."""
        return self.key(position)

    def chips(self) -> Sequence[Path | np.ndarray] | None:
        """Return the image file, or the gray pixels `[H, W]`, of each record, where every image is
        one aligned face; None otherwise.
        """
        return None


class Wrapper(Source):
    """A source whose records are those of another one, in another order or changed."""

    def __init__(self, source: Source):
        self.source = source
        self.categories = tuple(source.categories)
        self.skipped, self.undeclared = source.skipped, source.undeclared

    def inner(self, position: int) -> int:
        """Return the record's position in the wrapped source."""
        return position

    def change(self, record: Record) -> Record:
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
