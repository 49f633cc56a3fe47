"""Face masks, drawn into records when their pixels are read."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mtl_jax.attributes.base import Attribute
from mtl_jax.attributes.categorical import Categorical
from mtl_jax.data.face_masks.fit import FITTED, Frame, chip_frame, frame_of
from mtl_jax.data.face_masks.render import draw_wearing, put_on
from mtl_jax.data.face_masks.textures import KINDS
from mtl_jax.data.pixels import own_pixels
from mtl_jax.data.records import Instance, Record

BARE = "none"
# The labels of drawn masks: the kind of a face's mask, and whether the face is masked.
WORN = Categorical("face_mask", classes=(BARE, *KINDS))
COVERED = Categorical("masked", classes=("no", "yes"))
FULL = 0.9  # minimum share of an aligned chip that the face's box covers


def with_masks(attributes: Sequence[Attribute]) -> tuple[Attribute, ...]:
    """Return the declared attributes plus WORN and COVERED, unless these are declared."""
    declared = {attribute.name for attribute in attributes}
    return (*attributes, *(a for a in (WORN, COVERED) if a.name not in declared))


@dataclass(frozen=True)
class DrawMasks:
    """A change of records, for `Record.deferred`: `mask_faces` with the probability `share`.

    The random generator depends on `seed` and the image's name, so that the same faces have the
    same masks each time. Raises ValueError if `share` is not a probability, or if `attributes`
    declares WORN or COVERED without their classes.
    """

    attributes: tuple[Attribute, ...]
    share: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"masks must be a probability from 0 to 1, got {self.share}")
        declared = {attribute.name: attribute for attribute in self.attributes}
        for own in (WORN, COVERED):
            given = declared.get(own.name, own)
            if unknown := set(own.classes) - set(given.class_names):
                raise ValueError(
                    f"config.attributes.{own.name} has no class {min(unknown)!r}; declare "
                    f'dict(kind="categorical", classes={own.classes})'
                )

    def __call__(self, record: Record) -> Record:
        rng = face_rng(self.seed, record.file_name)
        return mask_faces(record, self.attributes, self.share, rng)


def face_rng(seed: int, name: str) -> np.random.Generator:
    """Return the random generator of an image by name, the same in every split and order."""
    return np.random.default_rng([seed, *name.encode()])


def mask_faces(
    record: Record, attributes: Sequence[Attribute], share: float, rng: np.random.Generator
) -> Record:
    """Draw masks on all faces of a record with the probability `share`, else on none.

    Each face is labelled with the kind of its mask, one of KINDS or BARE, and with whether it is
    masked. Its position is taken from the first attribute with AFLW's 21 or iBUG's 68 landmarks or,
    if its box is the whole image, from the template of aligned chips; other faces stay bare. A face
    that is already masked keeps its mask. Visible landmarks below a mask become hidden. A region
    that shows too little of a face to have its labels is unchanged.

    Raises ValueError if `attributes` declares no such landmarks and a face's box is smaller than
    the image.
    """
    if record.region is not None and not record.exhaustive:
        return record
    known = {attribute.name: attribute for attribute in with_masks(attributes)}
    worn, covered = known[WORN.name], known[COVERED.name]
    points = next((a for a in attributes if len(a.point_names) in FITTED), None)

    def labelled(instance: Instance, kind: str) -> Instance:
        own = {
            worn.name: worn.parse(kind),
            covered.name: covered.parse("no" if kind == BARE else "yes"),
        }
        return replace(instance, attributes={**instance.attributes, **own})

    def kind_of(instance: Instance) -> str:
        return worn.annotate(*instance.label_of(worn)) or BARE

    if rng.random() >= share:
        bare = tuple(labelled(instance, kind_of(instance)) for instance in record.instances)
        return replace(record, instances=bare)
    pixels = own_pixels(record)
    faces = []
    for instance in record.instances:
        frame, wearing = _frame(instance, points, record, rng), draw_wearing(rng)
        if frame is None or kind_of(instance) != BARE:
            faces.append(labelled(instance, kind_of(instance)))
            continue
        pixels, outline = put_on(pixels, frame, wearing)
        if points is not None:
            instance = _hide(instance, points, outline)
        faces.append(labelled(instance, wearing.kind))
    return replace(record, image=pixels, instances=tuple(faces))


def _frame(
    instance: Instance, points: Attribute | None, record: Record, rng: np.random.Generator
) -> Frame | None:
    if points is not None and points.name in instance.attributes:
        values, known = (x.reshape(-1, 3) for x in instance.attributes[points.name])
        try:
            return frame_of(np.where(known[:, :2], values[:, :2].astype(float), np.nan))
        except ValueError:
            return None  # too few of its points are known
    x1, y1, x2, y2 = instance.box
    if (x2 - x1) * (y2 - y1) >= FULL * record.width * record.height:
        return chip_frame(record.height, record.width, rng)
    if points is None:
        raise ValueError(
            "drawing masks requires landmarks, and no attribute declares those of a face; set "
            'config.attributes.face=dict(kind="landmarks", points=LANDMARKS, flip=LANDMARK_FLIP)'
        )
    return None


def _hide(instance: Instance, points: Attribute, outline: np.ndarray) -> Instance:
    """Mark the visible landmarks inside `outline` `[H, W]` as hidden."""
    if points.name not in instance.attributes:
        return instance
    values, known = instance.attributes[points.name]
    rows, (height, width) = values.reshape(-1, 3).copy(), outline.shape
    x, y = np.floor(rows[:, :2]).astype(int).T
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    inside &= known.reshape(-1, 3).all(1)
    inside[inside] = outline[y[inside], x[inside]]
    rows[inside, 2] = 0
    label = rows.reshape(-1), known
    return replace(instance, attributes={**instance.attributes, points.name: label})
