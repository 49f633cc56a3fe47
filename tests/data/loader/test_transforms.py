"""Pixels, boxes, masks and attributes of an example are transformed alike."""

from collections.abc import Callable
from dataclasses import replace

import cv2
import jax
import numpy as np
import pytest
from mistakes import refused

from mtl_jax.attributes import declarations as attributes
from mtl_jax.attributes.base import parse_labels
from mtl_jax.config.options.data import AugmentOptions, DataOptions
from mtl_jax.data.loader import photometric, transforms
from mtl_jax.data.records import Instance, Record
from mtl_jax.images.geometry import Turn
from mtl_jax.images.resize import ResizeOptions, resize_and_pad, resize_geometry

ATTRIBUTES = attributes.from_config(
    {
        "corners": {
            "kind": "landmarks",
            "points": ("left", "top", "right", "bottom"),
            "flip": (("left", "right"),),
        },
        "head": {"kind": "pose", "angles": ("yaw", "pitch")},
        "age": {"kind": "continuous", "range": (0, 99)},
    }
)
STILL = AugmentOptions(flip=0.0)
SQUARE = ResizeOptions("square", 128, 128, ((128, 128),))
OPTIONS = DataOptions(resize=SQUARE, augment=STILL, max_instances=4, mask_size=28)
DIAMOND = np.array([(30.0, 45.0), (60.0, 21.0), (90.0, 45.0), (60.0, 69.0)])


def diamond_record(height: int = 96, width: int = 120, **changes) -> Record:
    """Return a record of a white diamond on a dark background, with its four corners as points."""
    y, x = np.mgrid[:height, :width] + 0.5
    image = np.full((height, width, 3), 40, np.uint8)
    image[abs(x - 60) / 30 + abs(y - 45) / 24 <= 1] = 255
    instance = Instance(
        box=(*DIAMOND.min(0).tolist(), *DIAMOND.max(0).tolist()),
        label=2,
        segmentation=[DIAMOND.ravel().tolist()],
        attributes=parse_labels(
            ATTRIBUTES,
            {
                "corners": [(*point, 2) for point in DIAMOND.tolist()],
                "head": {"yaw": 30, "pitch": 10},
            },
        ),
    )
    record = Record(image, width, height, 7, "diamond.png", (instance,))
    return replace(record, **changes)


def with_augment(options: DataOptions = OPTIONS, **augment) -> DataOptions:
    return replace(options, augment=replace(STILL, **augment))


def load(record: Record, options: DataOptions, seed: int | None = None):
    rng = None if seed is None else np.random.default_rng(seed)
    return transforms.load(record, 3, ATTRIBUTES, options, rng)


def paste(masks: np.ndarray, box: np.ndarray, canvas: tuple[int, int]) -> np.ndarray:
    """Return the cell's value at each pixel centre of the padded image; 0 outside the box."""
    side = len(masks)
    x, y = np.arange(canvas[1]) + 0.5, np.arange(canvas[0]) + 0.5
    column = np.floor((x - box[0]) / (box[2] - box[0]) * side).astype(int)
    row = np.floor((y - box[1]) / (box[3] - box[1]) * side).astype(int)
    inside = ((row >= 0) & (row < side))[:, None] & (column >= 0) & (column < side)
    return masks[row.clip(0, side - 1)[:, None], column.clip(0, side - 1)] * inside


AUGMENTS = {
    "still": {},
    "flip": {"flip": 1.0},
    "small": {"scale": (0.5, 0.5), "flip": 1.0},
    "crop": {"scale": (1.3, 1.6)},
    "crop and flip": {"scale": (1.3, 1.6), "flip": 1.0},
    "any": {"scale": (0.4, 1.5), "flip": 0.5},
}


@pytest.mark.parametrize("name", AUGMENTS)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("mask_size", [28, 0])
def test_annotations_lie_on_the_pixels(name, seed, mask_size):
    options = with_augment(replace(OPTIONS, mask_size=mask_size), **AUGMENTS[name])
    row = load(diamond_record(), options, seed)
    gt = row.gt
    assert gt.valid.tolist() == [True, False, False, False]
    assert gt.classes[0] == 2
    shown = row.images[..., 0] > 150
    seen = shown.nonzero()
    found = [seen[1].min(), seen[0].min(), seen[1].max() + 1, seen[0].max() + 1]
    np.testing.assert_allclose(gt.boxes[0], found, atol=1.6)

    assert gt.mask_valid[0]
    drawn = gt.masks[0] if mask_size == 0 else paste(gt.masks[0], gt.boxes[0], (128, 128))
    agree = (shown & (drawn > 127)).sum() / (shown | (drawn > 127)).sum()
    assert agree > 0.93
    assert abs(drawn.sum() / 255 / shown.sum() - 1) < 0.05

    values = gt.attributes["corners"].values[0].reshape(4, 3)
    known = gt.attributes["corners"].known[0].reshape(4, 3)
    assert known[:, 2].all()
    np.testing.assert_array_equal(values[:, 2] == 1, known[:, 0])
    box = gt.boxes[0]
    for place, side, value in ((0, 0, box[0]), (1, 1, box[1]), (2, 0, box[2]), (3, 1, box[3])):
        if known[place, side]:  # "left" is left in the row, mirrored or not
            assert abs(values[place, side] - value) < 1e-3
    flip = AUGMENTS[name].get("flip", 0.0)
    yaw, pitch = gt.attributes["head"].values[0]
    assert yaw in {0.0: (30,), 0.5: (30, -30), 1.0: (-30,)}[flip]
    assert pitch == 10
    assert not gt.attributes["age"].known.any()


def test_the_augmentations_include_flips_crops_and_points_outside():
    """The test above would also pass without any augmentation; check what its seeds draw."""
    yaws, areas, hidden = set(), set(), 0
    for name in ("any", "crop and flip"):
        for seed in range(4):
            gt = load(diamond_record(), with_augment(**AUGMENTS[name]), seed).gt
            yaws.add(float(gt.attributes["head"].values[0, 0]))
            areas.add(round(float(np.prod(gt.boxes[0, 2:] - gt.boxes[0, :2]))))
            hidden += 12 - int(gt.attributes["corners"].known[0].sum())
    assert yaws == {-30.0, 30.0}
    assert len(areas) > 4
    assert hidden > 0


def test_float_pixels_without_a_change_are_not_rounded():
    options = replace(with_augment(), resize=replace(SQUARE, interpolation="float"))
    record = diamond_record()
    training, evaluation = load(record, options, seed=5), load(record, options)
    assert (evaluation.images % 1).any()
    np.testing.assert_array_equal(training.images, evaluation.images)


def test_the_padded_image_shows_the_records_region():
    record = replace(diamond_record(), region=(30, 20, 110, 90))
    canvas, geometry = transforms.fit(record, SQUARE)
    row = load(record, with_augment())
    assert row.images.shape[:2] == canvas
    expected = geometry.boxes(np.array(record.region, np.float64))
    np.testing.assert_allclose(expected, [0, 0, *row.sizes[::-1]], atol=1e-4)
    with refused("diamond.png", error=ValueError):
        transforms.fit(replace(record, turn=Turn(9.0, (50.0, 50.0))), SQUARE)


def test_training_without_augmentation_equals_evaluation():
    still, record = with_augment(), diamond_record()
    training, evaluation = load(record, still, seed=5), load(record, still)
    np.testing.assert_array_equal(training.images, evaluation.images)
    np.testing.assert_array_equal(training.sizes, evaluation.sizes)
    np.testing.assert_array_equal(training.gt.masks, evaluation.gt.masks)
    np.testing.assert_array_equal(training.gt.boxes, evaluation.gt.boxes)
    canvas, geometry = resize_geometry(96, 120, SQUARE)
    np.testing.assert_array_equal(
        evaluation.images, resize_and_pad(np.asarray(record.image), canvas, geometry)
    )


def test_a_row_has_the_documented_types_and_shapes():
    row = load(diamond_record(exhaustive=False), OPTIONS)
    assert (row.images.dtype, row.images.shape) == (np.uint8, (128, 128, 3))
    np.testing.assert_array_equal(row.sizes, [102, 128])
    assert row.valid
    assert not row.exhaustive
    assert row.index == 3
    empty = transforms.empty_row((128, 128), ATTRIBUTES, OPTIONS)
    assert not empty.valid
    assert empty.index == -1
    for got, filler in zip(jax.tree.leaves(row), jax.tree.leaves(empty), strict=True):
        assert (got.dtype, got.shape) == (filler.dtype, filler.shape)
    assert list(row.gt.attributes) == list(empty.gt.attributes) == ["corners", "head", "age"]


def box_record(*boxes, height=100, width=100, **fields) -> Record:
    instances = tuple(Instance(box=box, label=i + 1, **fields) for i, box in enumerate(boxes))
    return Record(np.zeros((height, width, 3), np.uint8), width, height, 0, "boxes", instances)


CROPPING = replace(OPTIONS, resize=ResizeOptions("crop", 50, 0))


def test_mostly_cropped_instances_are_dropped():
    """Evaluation shows the central 50 x 50 pixels of 100 x 100, from 25 to 75."""
    boxes = [
        (30, 30, 60, 60),  # inside
        (0, 30, 20, 60),  # outside
        (20, 30, 70, 60),  # 90 % inside
        (0, 30, 27, 60),  # 7 % inside
        (24.5, 30, 25.5, 60),  # half a pixel inside
        (15, 15, 85, 85),  # contains the crop
    ]
    gt = load(box_record(*boxes), CROPPING).gt
    assert gt.valid.sum() == 3
    assert gt.classes[gt.valid].tolist() == [1, 3, 6]
    np.testing.assert_allclose(gt.boxes[0], [5, 5, 35, 35])
    np.testing.assert_allclose(gt.boxes[1], [0, 5, 45, 35])
    np.testing.assert_allclose(gt.boxes[2], [0, 0, 50, 50])
    np.testing.assert_allclose(gt.ignored, [[0, 5, 2, 35], *np.zeros((len(gt.ignored) - 1, 4))])
    most = load(box_record(*boxes), replace(CROPPING, min_visible=0.02)).gt
    assert most.classes[most.valid].tolist() == [1, 3, 4, 6]
    assert not most.ignored.any()


def test_a_clipped_mask_covers_the_clipped_box():
    record = box_record((0, 0, 60, 100), segmentation=[[0, 0, 60, 0, 60, 50, 0, 50]])
    gt = load(record, CROPPING).gt
    np.testing.assert_allclose(gt.boxes[0], [0, 0, 35, 50])
    np.testing.assert_array_equal(gt.masks[0, :14], 255)  # the image's rows 25 to 50
    np.testing.assert_array_equal(gt.masks[0, 14:], 0)


def test_shrunk_masks_have_soft_edges():
    stripes = np.zeros((96, 120), bool)
    stripes[:, ::2] = True
    record = diamond_record()
    striped = replace(record.instances[0], box=(0, 0, 112, 96), segmentation=stripes)
    gt = load(replace(record, instances=(striped,)), OPTIONS).gt
    np.testing.assert_allclose(gt.masks[0], 127.5, atol=1)  # a cell has 4 columns, 2 of them set


def test_an_instance_without_a_mask_is_marked():
    gt = load(box_record((10, 10, 50, 50)), OPTIONS).gt
    assert gt.valid[0]
    assert not gt.mask_valid[0]
    assert not gt.masks.any()


def test_crowds_and_instances_without_a_slot_are_ignored_regions():
    record = box_record(*[(10, 10, 50, 50 + i) for i in range(6)])
    crowd = tuple(replace(x, crowd=i in (1, 3)) for i, x in enumerate(record.instances))
    record = replace(record, instances=crowd)
    boxes = [np.multiply(x.box, 1.28) for x in record.instances]
    row = load(record, replace(OPTIONS, max_instances=4))
    assert row.gt.classes.tolist() == [1, 3, 5, 6]
    np.testing.assert_allclose(row.gt.ignored[:2], [boxes[1], boxes[3]], rtol=1e-6)
    assert not row.gt.ignored[2:].any()
    assert row.exhaustive
    few = load(record, replace(OPTIONS, max_instances=3))
    assert few.gt.classes.tolist() == [1, 3, 5]
    np.testing.assert_allclose(few.gt.ignored, [boxes[1], boxes[3], boxes[5]], rtol=1e-6)
    assert few.exhaustive
    fewer = load(record, replace(OPTIONS, max_instances=2))
    assert fewer.gt.classes.tolist() == [1, 3]
    assert not fewer.exhaustive  # more than the ignored regions contain: no negatives


def test_wrong_annotations_name_the_instance():
    record = box_record((10, 10, 50, 50), segmentation=[[1, 2]], id=12)
    with refused(12, error=ValueError):
        load(record, OPTIONS)


def test_an_image_of_another_size_than_annotated_is_refused(tmp_path):
    with refused("120 x 96", "96 x 120", error=ValueError):
        load(replace(diamond_record(), width=96, height=120), OPTIONS)


def test_images_are_read_from_files(tmp_path):
    record = diamond_record()
    cv2.imwrite(str(tmp_path / "a.png"), record.image)  # gray, so BGR equals RGB
    row = load(replace(record, image=tmp_path / "a.png"), OPTIONS)
    np.testing.assert_array_equal(row.images, load(record, OPTIONS).images)


PHOTOMETRIC = (
    "brightness",
    "contrast",
    "saturation",
    "hue",
    "blur",
    "motion",
    "rain",
    "noise",
)


@pytest.mark.parametrize("channels", [1, 5])
def test_other_numbers_of_channels_pass_through_every_change(channels):
    image = np.random.default_rng(0).integers(0, 256, (96, 120, channels), np.uint8)
    every = dict.fromkeys(("flip", *PHOTOMETRIC), 1.0)
    options = with_augment(replace(OPTIONS, channels=channels), scale=(0.8, 1.2), **every)
    row = load(diamond_record(image=image), options, 0)
    assert row.images.shape == (128, 128, channels)


@pytest.mark.parametrize("name", PHOTOMETRIC)
def test_each_change_affects_only_pixels_of_the_image(name):
    image = diamond_record().image * np.array([1.0, 0.6, 0.3])
    record = diamond_record(image=image.astype(np.uint8))
    options = with_augment(**{name: 1.0})
    changed, same = load(record, options, 1), load(record, OPTIONS)
    assert np.abs(changed.images.astype(int) - same.images).max() > 3
    assert not changed.images[102:].any()  # the padding below the image stays 0
    np.testing.assert_array_equal(changed.gt.boxes, same.gt.boxes)
    np.testing.assert_array_equal(changed.gt.masks, same.gt.masks)
    np.testing.assert_array_equal(load(record, options, 1).images, changed.images)
    assert (load(record, options, 2).images != changed.images).any()


@pytest.mark.parametrize("name", PHOTOMETRIC)
def test_a_strength_of_zero_changes_nothing(name):
    options = with_augment(**{name: 1.0, f"{name}_strength": 0.0})
    same = load(diamond_record(), OPTIONS).images
    np.testing.assert_array_equal(load(diamond_record(), options, 1).images, same)


def test_light_is_linear_about_the_mean():
    image = np.random.default_rng(0).integers(80, 160, (20, 30, 3), np.uint8)
    got = photometric.change_light(image, 0.1, 0.25)
    mean = image.mean()
    np.testing.assert_allclose(got, (image - mean) * 1.25 + mean + 25.5, atol=0.51)
    clipped = photometric.change_light(image, 1.0, 0.0)
    assert (clipped == 255).all()


def test_saturation_is_multiplied_and_hue_rotated():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    gray = photometric.change_color(image, -1.0, 0.0)
    np.testing.assert_array_equal(gray, np.repeat(image.max(2, keepdims=True), 3, 2))
    # A third of a turn maps red to green, green to blue and blue to red.
    turned = photometric.change_color(image, 0.0, 1 / 3)
    np.testing.assert_allclose(turned, np.roll(image, 1, 2), atol=8)
    strong = photometric.change_color(image, 0.5, 0.0).astype(int)
    np.testing.assert_array_equal(strong.max(2), image.max(2))
    expected = np.clip(image.max(2) - 1.5 * (image.max(2) - image.min(2).astype(int)), 0, None)
    np.testing.assert_allclose(strong.min(2), expected, atol=2)


def test_noise_has_the_given_standard_deviation():
    image = np.full((300, 300, 3), 128, np.uint8)
    noisy = photometric.add_noise(image, 10.0, np.random.default_rng(0)).astype(float)
    assert abs(noisy.std() - 10) < 0.2
    assert abs(noisy.mean() - 128) < 0.1
    neighbours = np.corrcoef(noisy[:, 1:].ravel(), noisy[:, :-1].ravel())[0, 1]
    assert abs(neighbours) < 0.01


@pytest.mark.parametrize(
    ("change", "spread"),
    [
        (lambda image: photometric.blur(image, 2.0), (2.0, 2.0)),
        (lambda image: photometric.blur_by_motion(image, 12.0, 0.0), (12 / 12**0.5, 0.0)),
        (lambda image: photometric.blur_by_motion(image, 12.0, 90.0), (0.0, 12 / 12**0.5)),
    ],
)
def test_blurs_spread_a_spot_evenly(change: Callable, spread):
    image = np.zeros((41, 41, 1), np.uint8)
    image[18:23, 18:23] = 255  # the spot itself has a variance of (5^2 - 1) / 12
    weight = change(image)[..., 0].astype(float)
    assert abs(weight.sum() / image.sum() - 1) < 0.02
    y, x = np.mgrid[:41, :41] - 20
    for offset, expected in zip((x, y), spread, strict=True):
        mean = (offset * weight).sum() / weight.sum()
        deviation = np.sqrt((offset**2 * weight).sum() / weight.sum() - mean**2)
        assert abs(mean) < 0.1
        assert abs(deviation - np.hypot(expected, 2**0.5)) < 0.3


def test_rain_only_brightens_and_follows_its_strength():
    image = np.full((100, 120, 3), 60, np.uint8)
    light, heavy = (
        photometric.add_rain(image, strength, np.random.default_rng(0)).astype(int)
        for strength in (0.1, 0.5)
    )
    assert light.min() >= 60
    assert 60 < light.mean() < heavy.mean()
    assert heavy.max() <= 230


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (lambda: AugmentOptions(scale=(0.0, 1.0)), ("data.augment.scale", "(0.0, 1.0)")),
        (lambda: AugmentOptions(scale=(2.0, 1.0)), ("data.augment.scale", "(2.0, 1.0)")),
        (lambda: AugmentOptions(blur=1.5), ("data.augment.blur", 1.5, 0, 1)),
        (lambda: DataOptions(on_error="ignore"), ("data.on_error", "ignore", "stop", "skip")),
        (lambda: DataOptions(max_instances=0), ("data.max_instances", 1)),
    ],
)
def test_wrong_options_are_refused(options, parts):
    with refused(*parts, error=ValueError):
        options()
