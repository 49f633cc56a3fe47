"""Training regions: the paper's rules, checked with slow loops, and the rows of regions."""

from dataclasses import replace
from itertools import islice, pairwise

import jax
import numpy as np
import oracles
import pytest
from annotated import labels_of
from faces import AT, DECLARED
from mistakes import refused

from mtl_jax.attributes.base import parse_labels
from mtl_jax.attributes.vocabulary import LANDMARKS
from mtl_jax.config.options.data import AugmentOptions, DataOptions, RegionOptions
from mtl_jax.data.datasets.regions import RegionSource
from mtl_jax.data.face_masks.apply import mask_faces
from mtl_jax.data.loader import transforms
from mtl_jax.data.loader.pipeline import eval_batches, train_batches
from mtl_jax.data.records import Category, Instance, Record, Source
from mtl_jax.images.geometry import Turn
from mtl_jax.images.resize import ResizeOptions

SIDE = 67
REGIONS = RegionOptions(proposals="jitter", per_image=20)
OPTIONS = DataOptions(
    resize=ResizeOptions("stretch", canvases=((SIDE, SIDE),)),
    augment=AugmentOptions(flip=0.0),
    max_instances=1,
    mask_size=4,
)
LABELS = {
    "head": {"yaw": 30, "pitch": 10, "roll": 5},
    "face": [(30 + 2 * j, 20 + j, 2) for j in range(21)],
    "gender": "male",
}


class Images(Source):
    """An image of two faces and a crowd, one without faces, and both again, not exhaustive."""

    categories = (Category(1, "face"),)

    def __init__(self, width=160, height=100):
        rng = np.random.default_rng(0)
        image = rng.integers(0, 256, (height, width, 3), np.uint8)
        every, some = (parse_labels(DECLARED, raw) for raw in (LABELS, {"gender": "female"}))
        faces = (
            Instance((25.3, 14.6, 75.1, 60.2), 1, attributes=every),
            Instance((90, 40, 120, 80), 1, attributes=some),
            Instance((110, 0, 160, 50), 1, crowd=True),
        )
        first = Record(image, width, height, 0, "a.png", faces)
        self.records = [
            first,
            replace(first, instances=()),
            replace(first, exhaustive=False),
            replace(first, instances=(), exhaustive=False),
        ]

    def __len__(self):
        return len(self.records)

    def __getitem__(self, position):
        return self.records[position]

    def group(self, position):
        return f"photograph {position}"


IMAGES = Images()


def source(find=None, seed=0, **options):
    return RegionSource(IMAGES, DECLARED, replace(REGIONS, **options), find, seed)


def proposals(position):
    """Return a small box, boxes on the first face, and a box beside it."""
    del position
    return np.array([[0, 0, 12, 12], [26, 15, 75, 60], [35, 20, 80, 70], [5, 14, 60, 60]])


@pytest.mark.parametrize("find", [None, proposals])
def test_labels_follow_the_papers_thresholds(find):
    seen = {"positive": 0, "between": 0, "negative": 0}
    for seed in range(6):
        regions = source(find, seed)
        for position in range(len(regions)):
            record = regions[position]
            whole = IMAGES[position // 20]
            faces = [face for face in whole.instances if not face.crowd]
            iou = oracles.iou([record.frame], [face.box for face in faces])[0] if faces else [0.0]
            best = max(iou)
            if record.instances:
                (found,) = record.instances
                face = faces[int(np.argmax(iou))]
                assert found.box == face.box
                if best >= 0.5:
                    seen["positive"] += 1
                    assert record.exhaustive
                    assert labels_of(found, DECLARED) == labels_of(face, DECLARED)
                else:
                    seen["between"] += 1
                    assert not record.exhaustive
                    assert best > 0.35
                    assert set(found.attributes) <= {"face"}
                    assert ("face" in found.attributes) == ("face" in face.attributes)
            elif record.exhaustive:
                seen["negative"] += 1
                assert best < 0.35
                assert whole.exhaustive
                frame = np.array(record.frame)
                left_top, right_bottom = (
                    np.maximum(frame[:2], (110, 0)),
                    np.minimum(frame[2:], (160, 50)),
                )
                common = np.prod((right_bottom - left_top).clip(0))
                if faces:
                    assert common <= 0.5 * np.prod(frame[2:] - frame[:2])
            else:
                assert position // 20 == 3  # nothing is known about its content
    assert seen["positive"] > 100
    assert seen["between"] > 20
    # Half of the first image's regions and all of the second's.
    assert seen["negative"] == 6 * (10 + 20)


def test_objects_that_are_left_out_are_not_negatives():
    """An annotation that `on_error="skip"` leaves out may be a face."""
    nothing = replace(IMAGES[1], instances=(), exhaustive=True)
    box = np.array((40, 20, 100, 80))
    seen = []
    for record in (nothing, replace(nothing, ignored=(tuple(box.tolist()),))):
        images = Images()
        images.records = [record]
        found = RegionSource(images, DECLARED, REGIONS, lambda _: box[None])
        frames = [found[i].frame for i in range(len(found)) if found[i].exhaustive]
        seen.append(max(oracles.iou(frames, [box]).ravel()))
    assert seen[0] > 0.9
    assert seen[1] < 0.35


def test_masks_add_no_labels_to_regions_without_labels():
    regions = source()
    kinds = {"unchanged": 0, "labelled": 0}
    for position in range(len(regions)):
        record = regions[position]
        worn = mask_faces(record, DECLARED, 1.0, np.random.default_rng(position))
        if record.instances and not record.exhaustive:
            kinds["unchanged"] += 1
            assert worn is record
        elif record.instances:
            kinds["labelled"] += 1
            assert "masked" in worn.instances[0].attributes
    assert min(kinds.values()) > 0


def test_a_region_depends_on_its_seed_and_position_alone():
    regions = source()
    again = [source()[i].region for i in (5, 3)]
    assert again == [regions[5].region, regions[3].region]
    assert [source(seed=1)[i].region for i in (5, 3)] != again
    assert len({regions[i].region for i in range(20)}) > 15
    assert regions.group(45) == "photograph 2"


def training(steps, start_step=0):
    regions, options = source(per_image=4), replace(OPTIONS, workers=1)
    batches = train_batches(
        [regions], [1.0], DECLARED, options, batch_size=4, seed=7, start_step=start_step
    )
    return list(islice(batches, steps))


def test_training_draws_other_regions_of_an_image_each_epoch():
    epochs = [{}, {}, {}]
    for step, batch in enumerate(training(12)):
        epochs[step // 4] |= dict(zip(batch.index.tolist(), batch.images, strict=True))
    assert [sorted(epoch) for epoch in epochs] == [list(range(16))] * 3
    # Nothing is known about the last image's content, so it is always used as a whole.
    pairs = [(one[i], other[i]) for one, other in pairwise(epochs) for i in range(12)]
    assert not any(np.array_equal(*pair) for pair in pairs)


def test_resumed_training_draws_the_same_regions():
    whole, tail = training(12), training(5, start_step=7)
    for a, b in zip(whole[7:], tail, strict=True):
        jax.tree.map(np.testing.assert_array_equal, a, b)


def test_evaluation_sees_the_same_regions_each_time():
    regions = source(per_image=4)
    first, second = (list(eval_batches(regions, DECLARED, OPTIONS, batch_size=4)) for _ in "ab")
    jax.tree.map(np.testing.assert_array_equal, first, second)
    row = transforms.load(regions[5], 5, DECLARED, OPTIONS)
    np.testing.assert_array_equal(first[1].images[1], row.images)


def test_proposals_with_the_required_iou_are_used_first():
    regions = source(proposals, positive_fraction=0.5)
    frames = {regions[i].region for i in range(80) if regions[i].exhaustive}
    found = {tuple(row) for row in proposals(0).tolist()}
    assert (26, 15, 75, 60) in frames
    assert (0, 0, 12, 12) in frames
    # The second face has no proposals, so its regions are drawn at random.
    assert any(frame not in found for frame in frames)


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_a_row_is_the_region_stretched_and_its_labels_follow(flip):
    options = replace(OPTIONS, augment=AugmentOptions(flip=flip))
    record = replace(IMAGES[0], instances=IMAGES[0].instances[:1], region=(28, 10, 68, 70))
    row = transforms.load(record, 0, DECLARED, options, np.random.default_rng(0))
    cut = replace(record, image=record.image[10:70, 28:68], width=40, height=60, region=None)
    cut = replace(cut, instances=())
    alone = transforms.load(cut, 0, DECLARED, options, np.random.default_rng(0))
    np.testing.assert_array_equal(row.images, alone.images)
    assert row.sizes.tolist() == [SIDE, SIDE]

    def x_of(x):
        x = (x - 28) / 40 * SIDE
        return SIDE - x if flip else x

    box = [x_of(75.1 if flip else 25.3), (14.6 - 10) / 60 * SIDE]
    box += [x_of(25.3 if flip else 75.1), (60.2 - 10) / 60 * SIDE]
    np.testing.assert_allclose(row.gt.boxes[0], np.clip(box, 0, SIDE), rtol=1e-5)
    points = row.gt.attributes["face"].values[0].reshape(21, 3)
    known = row.gt.attributes["face"].known[0].reshape(21, 3)
    for j, name in enumerate(LANDMARKS):
        mirror = name
        if flip:
            sides = {"left": "right", "right": "left"}
            mirror = "_".join(sides.get(part, part) for part in name.split("_"))
        x, y, _ = LABELS["face"][AT[mirror]]
        inside = 28 <= x <= 68
        assert known[j].tolist() == [inside, inside, True]
        if inside:
            np.testing.assert_allclose(points[j], [x_of(x), (y - 10) / 60 * SIDE, 1], rtol=1e-4)
        else:
            assert points[j, 2] == 0  # outside is not visible
    sign = -1 if flip else 1
    np.testing.assert_allclose(row.gt.attributes["head"].values[0], [30 * sign, 10, 5 * sign])
    assert row.gt.attributes["gender"].known[0, 0]


def test_a_turned_regions_labels_turn_with_its_pixels():
    frame = (28, 10, 68, 50)
    straight = replace(IMAGES[0], instances=IMAGES[0].instances[:1], region=frame)
    options = replace(OPTIONS, resize=ResizeOptions("stretch", canvases=((40, 40),)))
    upright = transforms.load(straight, 0, DECLARED, options)
    turned = replace(straight, turn=Turn(90, (48, 30)))
    row = transforms.load(turned, 0, DECLARED, options)
    np.testing.assert_array_equal(row.images, np.rot90(upright.images, -1))  # clockwise
    # The box's centre moves from (50.2, 37.4) to (40.6, 32.2); its sides remain 49.8 and 45.6.
    whole = np.array([40.6 - 24.9, 32.2 - 22.8, 40.6 + 24.9, 32.2 + 22.8]) - (28, 10, 28, 10)
    np.testing.assert_allclose(row.gt.boxes[0], np.clip(whole, 0, 40), atol=1e-4)
    before, after = (
        [x[0].reshape(21, 3) for x in labels.gt.attributes["face"]] for labels in (upright, row)
    )
    both = before[1][:, 0] & after[1][:, 0]
    assert both.sum() > 10
    x, y = before[0][both, 0], before[0][both, 1]
    np.testing.assert_allclose(after[0][both, :2], np.stack([40 - y, x], -1), atol=1e-4)
    assert (after[0][both, 2] == before[0][both, 2]).all()
    np.testing.assert_allclose(row.gt.attributes["head"].values[0], [30, 10, 95])


def test_a_turn_by_any_angle_moves_pixels_and_points_alike():
    image = np.zeros((100, 160, 3), np.uint8)
    image[39:42, 69:72] = 255  # centred at the point (70.5, 40.5)
    labels = parse_labels(DECLARED, {"face": [(70.5, 40.5, 2)] + [None] * 20})
    face = Instance((40, 10, 90, 60), 1, attributes=labels)
    record = Record(image, 160, 100, 0, "a.png", (face,), region=(40, 10, 100, 70))
    options = replace(OPTIONS, resize=ResizeOptions("stretch", canvases=((60, 60),)))
    row = transforms.load(replace(record, turn=Turn(-25, (70, 40))), 0, DECLARED, options)
    weight = row.images[..., 0].astype(float)
    rows, columns = np.indices(weight.shape) + 0.5
    seen = np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
    np.testing.assert_allclose(row.gt.attributes["face"].values[0, :2], seen, atol=0.1)


def test_training_turns_regions_and_evaluation_does_not():
    turning = source(turn=20.0)
    assert all(turning[i].turn is None for i in range(20))
    rng = np.random.default_rng(0)
    turns = [turning.draw(i % 20, rng).turn for i in range(200)]
    degrees = [turn.degrees for turn in turns if turn is not None]
    assert len(degrees) > 100
    assert -20 <= min(degrees) < -15
    assert 15 < max(degrees) <= 20
    same = source().draw(3, np.random.default_rng(0))
    assert turning.draw(3, np.random.default_rng(0)).region == same.region


def test_a_negative_has_no_instances_and_is_exhaustive():
    record = source()[25]
    row = transforms.load(record, 25, DECLARED, OPTIONS)
    assert not row.gt.valid.any()
    assert row.exhaustive
    assert row.images.shape == (SIDE, SIDE, 3)


def test_options_are_checked():
    known = "jitter", "fast", "quality"
    with refused("data.regions.proposals", "slow", *known, error=ValueError):
        RegionOptions(proposals="slow")
    with refused("data.regions.turn", -5, 0, 180, error=ValueError):
        RegionOptions(turn=-5)
