"""Scenes of drawn heads with exact boxes, masks, age, gender, smile, head pose and 21 landmarks.

Age and gender determine many fine features, each with an independent error. Colours and light
depend on neither, so that a thumbnail is not sufficient. For unseen scenes use another `seed` and
another `texture_seed`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import cv2
import numpy as np

from mtl_jax.attributes.base import Attribute, parse_labels
from mtl_jax.attributes.vocabulary import LANDMARK_FLIP, LANDMARKS
from mtl_jax.data.face_points import face_box
from mtl_jax.data.records import Category, Instance, Record, Source
from mtl_jax.data.synthetic import textures
from mtl_jax.data.synthetic.distractors import draw_distractor, draw_shoulders
from mtl_jax.data.synthetic.hair import random_hair
from mtl_jax.data.synthetic.heads import Patch, draw_head
from mtl_jax.data.synthetic.looks import SMILES, Rng, random_look

CATEGORIES = (Category(1, "head"),)
ATTRIBUTES: dict[str, dict[str, Any]] = {
    "age": {"kind": "continuous", "range": (0.0, 100.0)},
    "gender": {"kind": "categorical", "classes": ("male", "female")},
    "smile": {"kind": "ordinal", "classes": SMILES},
    "head": {"kind": "pose", "angles": ("yaw", "pitch", "roll")},
    "face": {"kind": "landmarks", "points": LANDMARKS, "flip": LANDMARK_FLIP},
}
_MOUTH = [LANDMARKS.index(f"mouth_{part}") for part in ("left", "center", "right")]
_TRIES = 6  # positions tried for a head or a distractor before it is left out


class _Layer(NamedTuple):
    """A drawn object, and the position (x, y) of its top left corner."""

    pixels: np.ndarray  # [P, P, 3] uint8
    mask: np.ndarray  # [P, P] uint8, coverage of each pixel, 0 to 255
    corner: np.ndarray


@dataclass
class _Scene:
    """An image that is painted from back to front; `owner` is the layer that a pixel shows."""

    image: np.ndarray  # [H, W, 3] uint8
    owner: np.ndarray  # [H, W] uint8, 0 for the background
    # Of each layer, including hidden pixels and those outside the image.
    areas: list[int] = field(default_factory=lambda: [0])
    heads: dict[int, tuple[Patch, np.ndarray, dict[str, Any]]] = field(default_factory=dict)


class SyntheticSource(Source):
    """`length` images of `size` (height, width); image i depends only on the arguments and i.

    `heads` and `distractors` are the (least, most) of each; those without a free position are left
    out. `head_heights` bound the height from chin to crown, as a fraction of the image's shorter
    side. `yaw`, `pitch` and `roll` are the largest angles in degrees. An object is not placed where
    less than `min_visible` of a head would remain visible. `missing` is the probability that a
    label is left out, for each attribute independently; a smile is labelled only if a part of the
    mouth is visible. `boxes` are those of heads including hair ('head') or of faces ('face'), as
    for photographs with landmarks; with 'face', a head whose face is outside the image is left out.
    Instances have labels for those of `attributes` that are in ATTRIBUTES.
    """

    is_drawn = True
    categories = CATEGORIES

    def __init__(
        self,
        length: int,
        seed: int,
        size: tuple[int, int] = (256, 256),
        heads: tuple[int, int] = (1, 5),
        distractors: tuple[int, int] = (0, 4),
        *,
        head_heights: tuple[float, float] = (0.1, 0.6),
        yaw: float = 75.0,
        pitch: float = 45.0,
        roll: float = 30.0,
        min_visible: float = 0.4,
        missing: float = 0.0,
        texture_seed: int = 0,
        boxes: str = "head",
        attributes: Sequence[Attribute] = (),
    ) -> None:
        if length < 0 or min(size) < 32 or not 0 <= missing <= 1:
            raise ValueError("synthetic: length must be 0 or more, size 32 or more, missing 0 to 1")
        if not 0 <= heads[0] <= heads[1] <= 100 or not 0 <= distractors[0] <= distractors[1] <= 100:
            raise ValueError("synthetic: heads and distractors must be (least, most), 0 to 100")
        if not 0 < head_heights[0] <= head_heights[1] <= 2:
            raise ValueError("synthetic: head_heights must be (least, most), above 0, up to 2")
        if boxes not in ("head", "face"):
            raise ValueError(f"synthetic: boxes must be 'head' or 'face', got {boxes!r}")
        self.boxes, self.attributes = boxes, tuple(attributes)
        self.length, self.seed, self.size = length, seed, (int(size[0]), int(size[1]))
        self.heads, self.distractors, self.head_heights = heads, distractors, head_heights
        self.yaw, self.pitch, self.roll, self.min_visible = yaw, pitch, roll, min_visible
        self.missing, self.texture_seed = missing, texture_seed

    def __len__(self) -> int:
        return self.length

    def group(self, position: int) -> str:
        """Return the position as the group: no two images share a person."""
        return str(position)

    def __getitem__(self, position: int) -> Record:
        if not 0 <= position < self.length:
            raise IndexError(
                f"synthetic: image {position} is out of range for {self.length} images"
            )
        rng = np.random.default_rng((self.seed, position))
        scene = _Scene(self._ground(rng), np.zeros(self.size, np.uint8))
        kinds = ["head"] * int(rng.integers(self.heads[0], self.heads[1] + 1))
        kinds += ["distractor"] * int(rng.integers(self.distractors[0], self.distractors[1] + 1))
        for kind in rng.permutation(kinds):
            if kind == "head":
                self._add_head(scene, rng)
            else:
                self._add_distractor(scene, rng)
        image = self._photograph(scene.image, rng)
        instances = self._instances(scene, position)
        return Record(image, self.size[1], self.size[0], position, f"{position:06d}.png", instances)

    def _ground(self, rng: Rng) -> np.ndarray:
        """Return a background: a part of a bank's texture, mirrored, scaled and recoloured."""
        bank = textures.ground(self.texture_seed, int(rng.integers(textures.BANK)))
        part = rng.uniform(0.3, 1)
        height, width = (
            max(8, int(part * textures.GROUND_SIZE * n / max(self.size))) for n in self.size
        )
        top, left = rng.integers(0, (bank.shape[0] - height + 1, bank.shape[1] - width + 1))
        cut = bank[top : top + height, left : left + width, rng.permutation(3)]
        cut = np.ascontiguousarray(cut[:: rng.choice((-1, 1)), :: rng.choice((-1, 1))])
        ground = cv2.resize(cut, self.size[::-1], interpolation=cv2.INTER_LINEAR)
        return cv2.convertScaleAbs(ground, alpha=rng.uniform(0.5, 1.15), beta=rng.uniform(-10, 30))

    def _photograph(self, image: np.ndarray, rng: Rng) -> np.ndarray:
        """Apply exposure, a colour cast, a slight blur and noise."""
        exposure = rng.uniform(0.7, 1.25) * rng.uniform(0.92, 1.08, 3)
        image = cv2.multiply(image, np.array([*exposure, 0.0]))
        if (blur := rng.uniform(-0.4, 0.8)) > 0.2:
            image = cv2.GaussianBlur(image, (0, 0), blur)
        noise, strength = textures.noise(self.texture_seed), rng.uniform(0, 6) / 64
        repeat = [-(-n // (textures.NOISE_SIZE // 2)) for n in self.size]
        if max(repeat) > 1:
            noise = np.tile(noise, (*repeat, 1))
        top, left = rng.integers(0, textures.NOISE_SIZE // 2, 2)
        cut = noise[top : top + self.size[0], left : left + self.size[1]]
        return cv2.addWeighted(image, 1.0, cut, strength, 0.0, dtype=cv2.CV_8U)

    def _add_head(self, scene: _Scene, rng: Rng) -> None:
        """Draw a head, maybe with shoulders, where it and the heads behind it stay visible."""
        low, high = self.head_heights
        spread = float(rng.random()) ** 0.75  # fewer of the smallest
        height = min(self.size) * low * (high / low) ** spread
        age, gender = round(float(rng.uniform(0, 100)), 1), str(rng.choice(("male", "female")))
        smile = str(rng.choice(SMILES))
        pose = _random_pose(rng, (self.yaw, self.pitch, self.roll))
        look = random_look(age, gender, smile, rng)
        hair = random_hair(look, rng, self.texture_seed)
        patch = draw_head(look, hair, pose, height, rng)
        labels = {
            "age": age,
            "gender": gender,
            "smile": smile,
            "head": dict(zip(("yaw", "pitch", "roll"), pose, strict=True)),
        }
        margin = 0.25 * height
        body = draw_shoulders(look.skin, height, pose, rng) if rng.random() < 0.35 else None
        for _ in range(_TRIES):
            beyond = height / 2 - margin
            center = rng.uniform(beyond, np.array(self.size[::-1]) - beyond)
            layers = [_centered(patch.pixels, patch.mask, center)]
            if body is not None:
                pixels, mask, offset = body
                layers.insert(0, _centered(pixels, mask, center + offset))
            if _shown(layers[-1], self.size) >= self.min_visible and self._spares(scene, layers):
                for layer in layers:
                    _paste(scene, layer)
                scene.heads[len(scene.areas) - 1] = patch, layers[-1].corner, labels
                return

    def _add_distractor(self, scene: _Scene, rng: Rng) -> None:
        pixels, mask = draw_distractor(min(self.size), rng, self.texture_seed)
        for _ in range(_TRIES):
            corner = rng.integers(-(len(mask) // 2), np.array(self.size[::-1]) - len(mask) // 2)
            if self._spares(scene, [layer := _Layer(pixels, mask, corner)]):
                _paste(scene, layer)
                return

    def _spares(self, scene: _Scene, layers: list[_Layer]) -> bool:
        """Return whether enough of every head painted so far stays visible behind `layers`."""
        if not scene.heads:
            return True
        shown = np.bincount(scene.owner.ravel(), minlength=len(scene.areas))
        for layer in layers:  # pixels that two layers cover count twice, to be safe
            inner, outer = _overlap(layer.mask.shape, layer.corner, self.size)
            covered = scene.owner[outer][layer.mask[inner] > 127]
            shown -= np.bincount(covered, minlength=len(scene.areas))
        return all(shown[k] >= max(1, self.min_visible * scene.areas[k]) for k in scene.heads)

    def _instances(self, scene: _Scene, position: int) -> tuple[Instance, ...]:
        rng = np.random.default_rng((self.seed, position, 1))  # missing labels change no pixel
        instances = []
        for number, (patch, corner, labels) in scene.heads.items():
            mask = scene.owner == number
            columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
            box = (float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))
            points = patch.points + corner
            if self.boxes == "face":
                try:
                    box = face_box(points, self.size[1], self.size[0])
                except ValueError:  # outside the image
                    continue
            at = np.floor(points).astype(int)
            shown = patch.visible & (at >= 0).all(1) & (at < self.size[::-1]).all(1)
            # Nearer layers were painted later.
            shown[shown] = scene.owner[at[shown, 1], at[shown, 0]] <= number
            rows_xy = np.round(points, 3).tolist()
            face = [(x, y, 2 if v else 1) for (x, y), v in zip(rows_xy, shown, strict=True)]
            known = labels | {"face": face}
            if not shown[_MOUTH].any():  # the smile is not visible
                del known["smile"]
            known = {key: known[key] for key in known if rng.random() >= self.missing}
            area, number = float(np.count_nonzero(mask)), position * 256 + number
            parsed = parse_labels(self.attributes, known)
            instances.append(Instance(box, 1, mask, area=area, id=number, attributes=parsed))
        return tuple(instances)


def _random_pose(rng: Rng, limits: tuple[float, ...]) -> tuple[float, float, float]:
    """Choose angles within the limits, uniformly or, with probability 0.4, nearer to 0."""
    even = rng.random() < 0.6
    angles = rng.uniform(-1, 1, 3) * limits * (1 if even else rng.uniform(0.1, 0.6))
    yaw, pitch, roll = np.round(angles, 2).tolist()
    return yaw, pitch, roll


def _centered(pixels: np.ndarray, mask: np.ndarray, center: np.ndarray) -> _Layer:
    return _Layer(pixels, mask, np.rint(center - len(mask) / 2).astype(int))


def _overlap(
    shape: tuple[int, ...], corner: np.ndarray, size: tuple[int, ...]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the overlap of a patch at `corner` (x, y) and an image: in the patch, in the image."""
    x, y = int(corner[0]), int(corner[1])
    left, top = max(x, 0), max(y, 0)
    right, bottom = max(min(x + shape[1], size[1]), left), max(min(y + shape[0], size[0]), top)
    return (slice(top - y, bottom - y), slice(left - x, right - x)), (
        slice(top, bottom),
        slice(left, right),
    )


def _shown(layer: _Layer, size: tuple[int, int]) -> float:
    """Return the fraction of a layer that is inside the image."""
    inner, _ = _overlap(layer.mask.shape, layer.corner, size)
    return np.count_nonzero(layer.mask[inner] > 127) / max(1, np.count_nonzero(layer.mask > 127))


def _paste(scene: _Scene, layer: _Layer) -> None:
    """Paint a layer over the scene; it owns the pixels that it covers by half or more."""
    inner, outer = _overlap(layer.mask.shape, layer.corner, scene.owner.shape)
    cover = layer.mask[inner]
    if cover.size:
        weight = cover.astype(np.float32) / 255
        below, above = (
            np.ascontiguousarray(scene.image[outer]),
            np.ascontiguousarray(layer.pixels[inner]),
        )
        scene.image[outer] = cv2.blendLinear(below, above, 1 - weight, weight)
        scene.owner[outer][cover > 127] = len(scene.areas)
    scene.areas.append(int(np.count_nonzero(layer.mask > 127)))
