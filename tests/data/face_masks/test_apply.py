"""Sources whose faces wear masks."""

import numpy as np
from annotated import open_format
from faces import HIDDEN, LABELS, ibug
from mistakes import refused
from real_data import data_set

from mtl_jax.config.options.data import AugmentOptions, DataOptions, SourceOptions
from mtl_jax.data.datasets.sources import open_sources
from mtl_jax.data.face_masks.apply import BARE, MaskedFaces, mask_faces
from mtl_jax.data.face_masks.textures import KINDS
from mtl_jax.data.face_points import from_ibug
from mtl_jax.data.loader.transforms import load
from mtl_jax.data.records import Category, Instance, Record
from mtl_jax.images.resize import ResizeOptions


class Chips:
    """Gray chips that fill their pictures."""

    categories = (Category(1, "face"),)

    def __init__(self, count=40, box=(0.0, 0.0, 64.0, 64.0), attributes=None):
        self._count, self._box, self._attributes = count, box, attributes or {}

    def __len__(self):
        return self._count

    def __getitem__(self, position):
        face = Instance(self._box, 1, attributes={"age": 30, **self._attributes})
        chip = np.full((64, 64, 3), 150, np.uint8)
        return Record(chip, 64, 64, position, f"{position}.png", (face,))

    def group(self, position):
        return f"g{position // 2}"


def test_a_source_puts_masks_on_a_share_of_its_faces_always_the_same():
    chips = Chips()
    masked = MaskedFaces(chips, 0.5, seed=3)
    records = [masked[i] for i in range(len(masked))]
    kinds = [r.instances[0].attributes["face_mask"] for r in records]
    for record, kind in zip(records, kinds, strict=True):
        assert record.instances[0].attributes["masked"] == ("no" if kind == "none" else "yes")
        assert (record.image != 150).any() == (kind != "none")
        assert record.instances[0].attributes["age"] == 30
    assert 10 <= sum(kind != "none" for kind in kinds) <= 30
    assert set(kinds) <= {BARE, *KINDS}
    np.testing.assert_array_equal(masked[5].image, records[5].image)
    other = MaskedFaces(chips, 0.5, seed=4)
    assert [other[i].instances[0].attributes["face_mask"] for i in range(40)] != kinds
    assert [masked.group(i) for i in range(4)] == ["g0", "g0", "g1", "g1"]
    with refused("masks", 1.5, error=ValueError):
        MaskedFaces(chips, 1.5)


def test_a_face_that_cannot_be_found_stays_bare():
    part = Chips(box=(0.0, 0.0, 30.0, 30.0))
    unknown = Chips(attributes={"face": [None] * 21})
    few = Chips(attributes={"face": [(30.0, 20.0, 2), (40.0, 25.0, 2), *[HIDDEN] * 19]})
    for source in (part, unknown, few):
        record = mask_faces(source[0], 1.0, np.random.default_rng(0))
        assert record.instances[0].attributes["face_mask"] == "none"
        assert record.instances[0].attributes["masked"] == "no"
        np.testing.assert_array_equal(record.image, 150)


def test_points_of_coco_that_are_not_labelled_are_no_places():
    """In every way of writing them: COCO fills in 0, 0, 0."""
    points = [p and (*p[:2], 2) for p in from_ibug(ibug((32.0, 32.0), 40.0))]
    ways = (
        points,
        [list(p) if p else [0, 0, 0] for p in points],
        [value for p in points for value in p or (0, 0, 0)],
    )
    first, *others = (
        mask_faces(Chips(1, attributes={"face": way})[0], 1.0, np.random.default_rng(0)).image
        for way in ways
    )
    assert (first != 150).any()
    for other in others:
        np.testing.assert_array_equal(other, first)


def test_all_of_aflw2000_wear_masks_also_in_profile():
    masked = MaskedFaces(open_format("aflw2000", data_set("aflw2000_prnet16"), LABELS))
    kinds = [masked[i].instances[0].attributes["face_mask"] for i in range(len(masked))]
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
    def first(**block):
        block = dict(format="synthetic", length=2, size=(96, 96), heads=(1, 1), **block)
        opened = open_sources(SourceOptions(sources=({**block, "split": "test"},)), ())
        return opened["test"].sources[0][0]

    bare, masked = first(), first(masks=1.0, mask_seed=2)
    assert (bare.image != masked.image).any()
    assert masked.instances[0].attributes["face_mask"] in KINDS
    # Landmarks below it are hidden now; others, and places, are as they were.
    before, after = (r.instances[0].attributes["face"] for r in (bare, masked))
    hidden = [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
    assert len(hidden) >= 3
    assert all((*before[i][:2], before[i][2], after[i][2]) == (*after[i][:2], 2, 1) for i in hidden)
    changed = (bare.image != masked.image).any(-1)
    assert all(changed[int(after[i][1]), int(after[i][0])] for i in hidden)
    elsewhere = first(masks=1.0, mask_splits=("train",))
    np.testing.assert_array_equal(elsewhere.image, bare.image)
    again = mask_faces(masked, 1.0, np.random.default_rng(0))
    np.testing.assert_array_equal(again.image, masked.image)  # it wears one
    assert again.instances[0].attributes == masked.instances[0].attributes
    with refused("config.data", "masks", "synthetic", 0, 1):
        first(masks=2.0)
