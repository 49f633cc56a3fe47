"""Compose scenes of several chips, which are images filled by one face. A detector has to find the
faces of a scene, whereas on single chips their boxes are known in advance.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from mtl_jax.attributes.base import Attribute, Label
from mtl_jax.data.pixels import materialize, own_pixels
from mtl_jax.data.records import Instance, Record, Source
from mtl_jax.data.segmentation import to_mask
from mtl_jax.data.synthetic import textures
from mtl_jax.errors import UserError
from mtl_jax.images.decode import to_channels
from mtl_jax.images.geometry import Geometry

_TRIES = 12  # positions tried for a chip before it is shrunk
_SHRINK = 0.8  # factor
_SIZES = 8  # sizes tried


class _Patch(NamedTuple):
    """A resized crop of a chip's image, and its position in the scene."""

    pixels: np.ndarray  # [h, w, 3] uint8
    x: int
    y: int
    geometry: Geometry  # from the chip's image to the scene
    box: np.ndarray  # [4], of the instance in the scene

    @property
    def area(self) -> np.ndarray:
        """The box `[4]` of the patch in the scene; it may extend beyond the scene."""
        height, width = self.pixels.shape[:2]
        return np.array([self.x, self.y, self.x + width, self.y + height])


class SceneSource(Source):
    """Scenes composed from `chips`, a source of records with one instance each.

    Scene i depends on the arguments and i only. A scene of `size` (height, width, or one side) has
    `count` (least, most) chips. The longer sides of their boxes are log-uniform in `sides` (least,
    most; pixels). A chip is cropped with a random margin of up to `margin` times its box's sides,
    limited by its image, and pasted on a background of textures, shapes and pieces of other chips.
    A later chip covers at most the fraction `max_overlap` of a box; a chip without such a position
    is left out. Covered pixels are removed from masks and covered landmarks are not visible, but
    boxes are not clipped. Fully covered instances are left out.

    With `length` 0 every chip is used once; otherwise there are `length` scenes, which repeat the
    chips in shuffled order. `attributes` are the declared ones; their landmarks move with the chip.
    Raises ValueError for invalid arguments.
    """

    is_drawn = True

    def __init__(
        self,
        chips: Source,
        length: int = 0,
        seed: int = 0,
        size: int | tuple[int, int] = (320, 320),
        *,
        count: tuple[int, int] = (1, 4),
        sides: tuple[float, float] = (40, 160),
        margin: float = 0.5,
        max_overlap: float = 0.1,
        attributes: Sequence[Attribute] = (),
    ):
        height, width = (size, size) if isinstance(size, int) else size
        if min(height, width) < 32 or not 0 < sides[0] <= sides[1] <= min(height, width):
            raise ValueError(
                f"scene: sides {tuple(sides)} must be (least, most), above 0 and up to size {size}"
            )
        if not 1 <= count[0] <= count[1] or length < 0 or margin < 0 or not 0 <= max_overlap <= 1:
            raise ValueError(
                "scene: count must be (least, most), at least 1; length and margin must not be "
                "negative; max_overlap must be between 0 and 1"
            )
        self._chips, self.categories, self.licence = chips, chips.categories, chips.licence
        self.height, self.width, self.seed = height, width, seed
        self.sides, self.margin, self.max_overlap = sides, margin, max_overlap
        self._landmarks = [a for a in attributes if a.point_names]
        self._starts, self._order = _deal(len(chips), length, count, seed)

    def __len__(self) -> int:
        return len(self._starts) - 1

    def group(self, position: int) -> str:
        """Return the scene's number. Splits must be made of the chips, not of the scenes."""
        return str(position)

    def __getitem__(self, position: int) -> Record:
        if not 0 <= position < len(self):
            raise IndexError(f"scene {position} is out of range; there are {len(self)}")
        rng = np.random.default_rng((self.seed, 1, position))
        image = self._ground(rng)
        top = np.zeros(
            (self.height, self.width), int
        )  # number of the topmost chip, from 1; 0: none
        placed: list[tuple[Record, _Patch]] = []
        exhaustive, unlabelled = True, set[int]()
        for i in self._order[self._starts[position] : self._starts[position + 1]]:
            chip = materialize(self._chips[int(i)])
            if len(chip.instances) != 1:
                raise UserError(
                    f"{chip.file_name}: a chip must have exactly one instance, got "
                    f"{len(chip.instances)}; use a source with one instance per image"
                )
            patch = self._place(chip, [other.box for _, other in placed], rng)
            if patch is None:
                continue
            exhaustive &= chip.exhaustive
            unlabelled.update(chip.unlabelled)
            _paste(image, patch)
            placed.append((chip, patch))
            x1, y1, x2, y2 = np.maximum(patch.area, 0)
            top[y1:y2, x1:x2] = len(placed)
        found = (self._instance(*pair, top == number) for number, pair in enumerate(placed, 1))
        instances = tuple(instance for instance in found if instance is not None)
        name = f"scene_{position:06d}.png"
        return Record(
            image,
            self.width,
            self.height,
            position,
            name,
            instances,
            exhaustive,
            tuple(sorted(unlabelled)),
        )

    def _place(
        self, chip: Record, placed: Sequence[np.ndarray], rng: np.random.Generator
    ) -> _Patch | None:
        """Sample sizes and positions until the overlap with the placed boxes is small enough.
        Return None if no position was found.
        """
        box = np.asarray(chip.instances[0].box)
        side = float(np.exp(rng.uniform(*np.log(self.sides))))
        pixels = to_channels(own_pixels(chip), 3)
        for attempt in range(_TRIES * _SIZES):
            patch = self._cut(pixels, box, side * _SHRINK ** (attempt // _TRIES), rng)
            if self._overlap(patch, placed) <= self.max_overlap:
                return patch
        return None

    def _overlap(self, patch: _Patch, placed: Sequence[np.ndarray]) -> float:
        """Return the largest fraction of a placed box covered by the patch, or of the patch's box
        covered by a placed box.
        """
        covered = [max(_covered(box, patch.area), _covered(patch.box, box)) for box in placed]
        return max(covered, default=0.0)

    def _cut(
        self, image: np.ndarray, box: np.ndarray, side: float, rng: np.random.Generator
    ) -> _Patch:
        """Crop the box with a random margin, resize it so that the box's longer side is `side`
        pixels, and draw a position where the whole box is inside the scene.
        """
        extent = box[2:] - box[:2]
        scale = side / extent.max()
        spare = rng.uniform(0, self.margin, 4) * np.tile(extent, 2)
        around = box + spare * (-1, -1, 1, 1)
        limit = np.array(image.shape[1::-1])
        low = np.clip(np.floor(around[:2]), 0, limit - 1).astype(int)
        high = np.clip(np.ceil(around[2:]), low + 1, limit).astype(int)
        piece = image[low[1] : high[1], low[0] : high[0]]
        size = np.maximum(np.rint((high - low) * scale), 1).astype(int)
        kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        piece = cv2.resize(piece, (int(size[0]), int(size[1])), interpolation=kind)
        sx, sy = size / (high - low)
        inner = Geometry(sx, sy, -sx * low[0], -sy * low[1]).boxes(box)
        room = np.array([self.width, self.height])
        x, y = (
            int(
                rng.integers(
                    np.ceil(-inner[k]),
                    max(np.ceil(-inner[k]), np.floor(room[k] - inner[k + 2])) + 1,
                )
            )
            for k in (0, 1)
        )
        geometry = Geometry(sx, sy, x - sx * low[0], y - sy * low[1])
        seen = np.clip(geometry.boxes(box), 0, np.tile(room, 2))
        return _Patch(piece, x, y, geometry, seen)

    def _instance(self, chip: Record, patch: _Patch, shown: np.ndarray) -> Instance | None:
        """Return the chip's instance in the scene. `shown` (bool `[H, W]`) is where its patch is
        visible. Return None if the instance is fully covered.
        """
        found = chip.instances[0]
        x1, y1, x2, y2 = (float(value) for value in patch.box)
        mask, extent = None, np.s_[int(y1) : math.ceil(y2), int(x1) : math.ceil(x2)]
        if found.segmentation is not None:
            mask = self._move_mask(to_mask(found.segmentation, chip.height, chip.width), patch)
            extent = mask if mask.any() else extent  # a tiny mask may contain no pixel centre
            mask = mask & shown
        if not shown[extent].any():
            return None
        labels = _move_labels(found.attributes, self._landmarks, patch, shown)
        return Instance((x1, y1, x2, y2), found.label, mask, found.crowd, None, found.id, labels)

    def _move_mask(self, mask: np.ndarray, patch: _Patch) -> np.ndarray:
        """Resample a chip's mask at the scene's pixel centres."""
        matrix = np.array(patch.geometry, float)[[0, 1, 2, 3]]
        shift = matrix[2:] + 0.5 * matrix[:2] - 0.5  # OpenCV's pixel centres are at integers
        affine = np.array([[matrix[0], 0, shift[0]], [0, matrix[1], shift[1]]])
        moved = cv2.warpAffine(
            mask.astype(np.uint8), affine, (self.width, self.height), flags=cv2.INTER_NEAREST
        )
        return moved.astype(bool)

    def _ground(self, rng: np.random.Generator) -> np.ndarray:
        """Draw a cluttered background: a texture, shapes, and pieces of chips that are too small to
        be a whole face.
        """
        texture = textures.ground(self.seed, int(rng.integers(textures.BANK)))
        zoom = rng.uniform(0.5, 1.0)
        part = int(zoom * texture.shape[0])
        x, y = rng.integers(0, texture.shape[0] - part + 1, 2)
        image = cv2.resize(texture[y : y + part, x : x + part], (self.width, self.height))
        image = np.ascontiguousarray(image[:: rng.choice((-1, 1)), :: rng.choice((-1, 1))])
        for _ in range(rng.integers(0, 6)):
            _draw_shape(image, rng)
        for _ in range(rng.integers(0, 5) if len(self._chips) else 0):
            self._draw_piece(image, rng)
        return image

    def _draw_piece(self, image: np.ndarray, rng: np.random.Generator) -> None:
        """Paste a square piece of a random chip, 0.3 to 0.5 of the chip's shorter side, rotated and
        sometimes blurred.
        """
        chip = materialize(self._chips[int(rng.integers(len(self._chips)))])
        pixels = to_channels(own_pixels(chip), 3)
        side = max(2, int(min(pixels.shape[:2]) * rng.uniform(0.3, 0.5)))
        x, y = (int(rng.integers(0, s - side + 1)) for s in pixels.shape[1::-1])
        piece = np.rot90(pixels[y : y + side, x : x + side], int(rng.integers(1, 4)))
        if rng.random() < 0.5:
            piece = cv2.GaussianBlur(np.ascontiguousarray(piece), (0, 0), rng.uniform(1, 8))
        width, height = (int(v) for v in rng.uniform(*self.sides, 2))
        piece = cv2.resize(piece, (width, height))
        x, y = (
            int(rng.integers(-width // 2, self.width)),
            int(rng.integers(-height // 2, self.height)),
        )
        _paste(image, _Patch(piece, x, y, Geometry(), np.zeros(4)))


def _deal(
    chips: int, length: int, count: tuple[int, int], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Assign chips to scenes. Return the start of each scene's chips, followed by the end of the
    last, and the order of the chips.
    """
    rng = np.random.default_rng((seed, 0))
    if not chips:
        return np.zeros(1, int), np.zeros(0, int)
    if length:
        starts = np.concatenate([[0], np.cumsum(rng.integers(count[0], count[1] + 1, length))])
    else:
        ends = np.cumsum(rng.integers(count[0], count[1] + 1, chips))
        starts = np.concatenate([[0], ends[ends < chips], [chips]])
    order = [rng.permutation(chips) for _ in range(-(-int(starts[-1]) // chips))]
    return starts, np.concatenate(order)


def _covered(box: np.ndarray, by: np.ndarray) -> float:
    """Return the fraction of a box that another box covers."""
    shared = np.clip(np.minimum(box[2:], by[2:]) - np.maximum(box[:2], by[:2]), 0, None)
    return float(np.prod(shared) / np.prod(box[2:] - box[:2]))


def _paste(image: np.ndarray, patch: _Patch) -> None:
    """Blend a patch into the image in place; its outermost pixels fade in."""
    height, width = patch.pixels.shape[:2]
    x1, y1 = max(patch.x, 0), max(patch.y, 0)
    x2, y2 = min(patch.x + width, image.shape[1]), min(patch.y + height, image.shape[0])
    if x1 >= x2 or y1 >= y2:
        return
    edge = max(1.0, 0.04 * min(height, width))
    fade_y, fade_x = (
        np.minimum(np.arange(n) + 0.5, n - np.arange(n) - 0.5) / edge for n in (height, width)
    )
    alpha = np.clip(np.minimum(fade_y[:, None], fade_x), 0, 1).astype(np.float32)[..., None]
    part = np.s_[y1 - patch.y : y2 - patch.y, x1 - patch.x : x2 - patch.x]
    below = image[y1:y2, x1:x2]
    mixed = below + alpha[part] * (patch.pixels[part].astype(np.float32) - below)
    image[y1:y2, x1:x2] = np.rint(mixed)


def _draw_shape(image: np.ndarray, rng: np.random.Generator) -> None:
    height, width = image.shape[:2]
    color = tuple(int(value) for value in rng.integers(0, 256, 3))
    x, y = int(rng.integers(width)), int(rng.integers(height))
    a, b = (int(value) for value in rng.integers(4, max(5, min(height, width) // 4), 2))
    kind = rng.integers(3)
    if kind == 0:
        cv2.ellipse(
            image, (x, y), (a, b), float(rng.uniform(0, 180)), 0, 360, color, -1, cv2.LINE_AA
        )
    elif kind == 1:
        cv2.rectangle(image, (x - a, y - b), (x + a, y + b), color, -1)
    else:
        end = int(rng.integers(width)), int(rng.integers(height))
        cv2.line(image, (x, y), end, color, int(rng.integers(1, 9)), cv2.LINE_AA)


def _move_labels(
    labels: Mapping[str, Label], landmarks: Sequence[Attribute], patch: _Patch, shown: np.ndarray
) -> dict[str, Label]:
    """Transfer a chip's labels to the scene. Landmarks move with the patch, and are not visible if
    they are cropped or covered; the other labels are unchanged.
    """
    moved = dict(labels)
    low = np.maximum(patch.area[:2], 0)
    high = np.minimum(patch.area[2:], shown.shape[::-1]) - 1
    for attribute in landmarks:
        if attribute.name not in labels:
            continue
        label = attribute.move(*labels[attribute.name], patch.geometry)
        values, known = attribute.crop(*label, patch.area)
        points = values.reshape(-1, 3)
        column, row = np.clip(points[:, :2].astype(int), low, high).T
        points[:, 2] *= shown[row, column]
        moved[attribute.name] = points.reshape(-1), known
    return moved
