"""Sources with masks drawn on their faces."""

import numpy as np
from annotated import labels_of, open_format
from faces import DECLARED, HIDDEN, LABELS, ibug
from mistakes import refused
from real_data import data_set

from mtl_jax.attributes.base import parse_labels
from mtl_jax.attributes.declarations import from_config
from mtl_jax.config.options.data import AugmentOptions, DataOptions, SourceOptions
from mtl_jax.data.datasets.cache import InMemory
from mtl_jax.data.datasets.sources import open_sources
from mtl_jax.data.datasets.subset import Subset
from mtl_jax.data.face_masks.apply import BARE, DrawMasks, mask_faces, with_masks
from mtl_jax.data.face_masks.textures import KINDS
from mtl_jax.data.face_points import from_ibug
from mtl_jax.data.loader.transforms import load
from mtl_jax.data.pixels import materialize, read_pixels
from mtl_jax.data.records import Category, Instance, Record, Source
from mtl_jax.data.synthetic.head_scenes import ATTRIBUTES
from mtl_jax.images.resize import ResizeOptions

FACES = (*DECLARED, *from_config({"age": {"kind": "continuous", "range": (0, 116)}}))
KNOWN = with_masks(FACES)


class Chips(Source):
    """Gray images filled by one face."""

    categories = (Category(1, "face"),)

    def __init__(self, count=40, box=(0.0, 0.0, 64.0, 64.0), attributes=None):
        self._count, self._box = count, box
        self._attributes = parse_labels(FACES, {"age": 30, **(attributes or {})})

    def __len__(self):
        return self._count

    def __getitem__(self, position):
        face = Instance(self._box, 1, attributes=self._attributes)
        chip = np.full((64, 64, 3), 150, np.uint8)
        return Record(chip, 64, 64, position, f"{position}.png", (face,))

    def group(self, position):
        return f"g{position // 2}"


def masked_faces(source, attributes=FACES, **options):
    """Return a source with masks, drawn on its faces when the pixels are read."""
    return Subset(source, range(len(source)), deferred=(DrawMasks(attributes, **options),))


def labels(record):
    return labels_of(record.instances[0], KNOWN)


def test_a_source_puts_masks_on_a_share_of_its_faces_always_the_same():
    chips = Chips()
    masked = masked_faces(chips, share=0.5, seed=3)
    records = [materialize(masked[i]) for i in range(len(masked))]
    kinds = [labels(record)["face_mask"] for record in records]
    for record, kind in zip(records, kinds, strict=True):
        assert labels(record)["masked"] == ("no" if kind == "none" else "yes")
        assert (record.image != 150).any() == (kind != "none")
        assert labels(record)["age"] == 30
    assert 10 <= sum(kind != "none" for kind in kinds) <= 30
    assert set(kinds) <= {BARE, *KINDS}
    np.testing.assert_array_equal(read_pixels(masked[5], 3), records[5].image)
    other = masked_faces(chips, share=0.5, seed=4)
    assert [labels(materialize(other[i]))["face_mask"] for i in range(40)] != kinds
    assert [masked.group(i) for i in range(4)] == ["g0", "g0", "g1", "g1"]
    with refused("masks", 1.5, error=ValueError):
        DrawMasks(FACES, 1.5)


def test_a_face_that_cannot_be_found_stays_bare():
    part = Chips(box=(0.0, 0.0, 30.0, 30.0))
    unknown = Chips(attributes={"face": [None] * 21})
    few = Chips(attributes={"face": [(30.0, 20.0, 2), (40.0, 25.0, 2), *[HIDDEN] * 19]})
    for source in (part, unknown, few):
        record = mask_faces(source[0], FACES, 1.0, np.random.default_rng(0))
        assert labels(record)["face_mask"] == "none"
        assert labels(record)["masked"] == "no"
        np.testing.assert_array_equal(record.image, 150)


def test_without_landmarks_only_chips_wear_masks():
    with refused("config.attributes", "landmarks", error=ValueError):
        mask_faces(Chips(box=(0.0, 0.0, 30.0, 30.0))[0], (), 1.0, np.random.default_rng(0))
    chip = mask_faces(Chips()[0], (), 1.0, np.random.default_rng(0))
    assert labels(chip)["face_mask"] in KINDS


def test_a_mask_that_cannot_be_drawn_names_the_image():
    part = masked_faces(Chips(box=(0.0, 0.0, 30.0, 30.0)), ())
    for read in (materialize, lambda record: read_pixels(record, 3)):
        with refused("3.png", "config.attributes", "landmarks"):
            read(part[3])
    kept = InMemory(part)[3]  # draws no mask before the pixels are needed
    with refused("3.png", "landmarks"):
        materialize(kept)


def test_masks_are_fitted_to_a_faces_points_if_other_landmarks_are_declared():
    hand = from_config({"hand": {"kind": "landmarks", "points": ("thumb", "palm")}})
    points = [p and (*p[:2], 2) for p in from_ibug(ibug((32.0, 32.0), 40.0))]
    chips = Chips(box=(0.0, 0.0, 60.0, 60.0), attributes={"face": points})
    masked = mask_faces(chips[0], (*hand, *FACES), 1.0, np.random.default_rng(0))
    assert labels(masked)["face_mask"] in KINDS


def test_mask_labels_declared_with_other_classes_are_refused():
    other = from_config({"masked": {"kind": "categorical", "classes": ("bare", "covered")}})
    with refused("config.attributes.masked", "no", "yes", error=ValueError):
        DrawMasks(other)
    block = dict(format="synthetic", length=2, split="test", masks=1.0)
    with refused("synthetic", "config.attributes.masked"):
        open_sources(SourceOptions(sources=(block,)), other)


def test_unlabelled_points_of_coco_have_no_position():
    """Compare all label formats; COCO writes 0, 0, 0 for unlabelled points."""
    points = [p and (*p[:2], 2) for p in from_ibug(ibug((32.0, 32.0), 40.0))]
    ways = (
        points,
        [list(p) if p else [0, 0, 0] for p in points],
        [value for p in points for value in p or (0, 0, 0)],
    )
    first, *others = (
        mask_faces(Chips(attributes={"face": way})[0], FACES, 1.0, np.random.default_rng(0)).image
        for way in ways
    )
    assert (first != 150).any()
    for other in others:
        np.testing.assert_array_equal(other, first)


def test_all_of_aflw2000_wear_masks_also_in_profile():
    source = open_format("aflw2000", data_set("aflw2000_prnet16"), LABELS)
    masked = masked_faces(source, DECLARED)
    kinds = [labels(materialize(masked[i]))["face_mask"] for i in range(len(masked))]
    assert len(kinds) == 12
    assert set(kinds) <= set(KINDS)


def test_training_puts_on_another_mask_each_time_and_evaluation_none():
    resize = ResizeOptions("square", 64, 64, ((64, 64),))
    augment = AugmentOptions(flip=0.0, mask=1.0)
    options = DataOptions(resize=resize, augment=augment, max_instances=1, mask_size=1)
    rows = [load(Chips()[0], 0, (), options, np.random.default_rng(i)).images for i in range(3)]
    assert all((row != 150).any() for row in rows)
    assert not np.array_equal(rows[0], rows[1])
    np.testing.assert_array_equal(load(Chips()[0], 0, (), options).images, 150)


def test_a_block_of_a_config_puts_masks_on():
    declared = from_config(ATTRIBUTES)

    def first(**block):
        block = dict(format="synthetic", length=2, size=(96, 96), heads=(1, 1), **block)
        opened = open_sources(SourceOptions(sources=({**block, "split": "test"},)), declared)
        return materialize(opened["test"].sources[0][0])

    bare, masked = first(), first(masks=1.0, mask_seed=2)
    assert (bare.image != masked.image).any()
    assert labels(masked)["face_mask"] in KINDS
    # Landmarks below the mask become hidden; others, and all positions, are unchanged.
    before, after = (labels(record)["face"] for record in (bare, masked))
    hidden = [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
    assert len(hidden) >= 3
    assert all((*before[i][:2], before[i][2], after[i][2]) == (*after[i][:2], 2, 1) for i in hidden)
    changed = (bare.image != masked.image).any(-1)
    assert all(changed[int(after[i][1]), int(after[i][0])] for i in hidden)
    elsewhere = first(masks=1.0, mask_splits=("train",))
    np.testing.assert_array_equal(elsewhere.image, bare.image)
    again = mask_faces(masked, declared, 1.0, np.random.default_rng(0))
    np.testing.assert_array_equal(again.image, masked.image)  # already masked
    every = with_masks(declared)
    assert labels_of(again.instances[0], every) == labels_of(masked.instances[0], every)
    with refused("config.data", "masks", "synthetic", 0, 1):
        first(masks=2.0)
