"""Scenes: boxes, landmarks and masks fit the pasted pixels, and no chip is used twice."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from annotated import labels_of
from mistakes import refused

from mtl_jax.attributes import declarations as attribute_kinds
from mtl_jax.attributes.base import parse_labels
from mtl_jax.data.datasets.compose_chips import SceneSource
from mtl_jax.data.records import Category, Instance, Record, Source

POINTS = {"kind": "landmarks", "points": ("left", "right", "unknown")}
AGE = {"kind": "continuous", "range": (0, 200)}
FACE = attribute_kinds.from_config({"face": POINTS, "age": AGE})
PURE = (255, 0, 255)


class Chips(Source):
    """Gray chips with a magenta square of random size and position."""

    categories = (Category(1, "square"),)

    def __init__(self, count: int):
        self.count = count

    def __len__(self) -> int:
        return self.count

    def group(self, position: int) -> str:
        return str(position)

    def __getitem__(self, position: int) -> Record:
        rng = np.random.default_rng(position)
        x, y = (int(v) for v in rng.integers(0, 30, 2))
        w, h = (int(v) for v in rng.integers(40, 60, 2))
        image = np.full((100, 110, 3), 128, np.uint8)
        image[y : y + h, x : x + w] = PURE
        box = (float(x), float(y), float(x + w), float(y + h))
        mask = (image == PURE).all(-1)
        points = [(x, y, 2), (x + w, y + h, 1), None]
        labels = {"face": points, "age": position}
        face = Instance(box, 1, mask, id=position, attributes=parse_labels(FACE, labels))
        return Record(image, 110, 100, position, f"{position}.png", (face,))


def test_boxes_masks_and_landmarks_fit_the_pixels():
    source = SceneSource(
        Chips(30), 40, 1, (200, 260), count=(1, 3), max_overlap=0.0, attributes=FACE
    )
    for position in range(40):
        record = source[position]
        assert record.image.shape == (200, 260, 3)
        for instance in record.instances:
            x1, y1, x2, y2 = instance.box
            inner = record.image[int(y1) + 5 : int(y2) - 4, int(x1) + 5 : int(x2) - 4]
            assert (np.abs(inner.astype(int) - PURE) < 12).all()
            rows, columns = np.nonzero(instance.segmentation)
            tight = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert np.abs(np.subtract(tight, instance.box)).max() <= 1
            labels = labels_of(instance, FACE)
            left, right, unknown = labels["face"]
            assert left == pytest.approx((x1, y1, 2), abs=0.01)
            assert right == pytest.approx((x2, y2, 1), abs=0.01)
            assert unknown is None
            assert labels["age"] == instance.id


def test_cropped_points_are_not_visible():
    class Wide(Chips):
        def __getitem__(self, position: int) -> Record:
            record = super().__getitem__(position)
            (face,) = record.instances
            x1, y1, x2, _ = face.box
            points = [(x1, y1, 2), (x2 + 60, y1, 2), (x1, y1 - 70, 1)]
            labels = parse_labels(FACE, {"face": points})
            return replace(record, instances=(replace(face, attributes=labels),))

    source = SceneSource(Wide(6), 6, 1, (200, 260), count=(1, 1), attributes=FACE)
    for position in range(6):
        for instance in source[position].instances:
            inside, beside, above = labels_of(instance, FACE)["face"]
            assert inside[2] == 2
            assert beside == above == [None, None, 1]


def test_scenes_depend_on_seed_and_position_alone():
    first, again = (SceneSource(Chips(9), 20, 5) for _ in range(2))
    other = SceneSource(Chips(9), 20, 6)
    for position in (7, 2):
        a, b, c = (source[position] for source in (first, again, other))
        assert np.array_equal(a.image, b.image)
        assert a.instances[0].box == b.instances[0].box
        assert not np.array_equal(a.image, c.image)


def test_without_a_length_each_chip_is_used_once():
    source = SceneSource(Chips(25), 0, 2)
    ids = [instance.id for i in range(len(source)) for instance in source[i].instances]
    assert sorted(ids) == list(range(25))
    repeated = SceneSource(Chips(3), 50, 2, count=(1, 1))
    used = [repeated[i].instances[0].id for i in range(50)]
    assert {used.count(k) for k in range(3)} <= {16, 17}


def test_sizes_spread_and_overlap_is_bounded():
    source = SceneSource(Chips(200), 0, 3, 320, count=(1, 4), sides=(40, 160), max_overlap=0.1)
    sides = []
    for i in range(len(source)):
        boxes = np.array([instance.box for instance in source[i].instances])
        sides += (boxes[:, 2:] - boxes[:, :2]).max(1).tolist()
        assert (boxes >= 0).all()
        assert (boxes <= 320).all()
    assert min(sides) < 60
    assert max(sides) > 130
    assert 0.3 < np.mean(np.log(np.array(sides) / 40) / np.log(4)) < 0.6


class Plain(Chips):
    """Uniform gray chips whose instance fills them."""

    points = ((9, 9, 2), (51, 9, 2), (30, 30, 2), (9, 51, 2), (51, 51, 1), (30, 9))
    masks = True
    declared = attribute_kinds.from_config(
        {"face": {"kind": "landmarks", "points": tuple(str(i) for i in range(len(points)))}}
    )

    def __getitem__(self, position: int) -> Record:
        image = np.full((60, 60, 3), 20 * position, np.uint8)
        mask = np.ones((60, 60), bool) if self.masks else None
        labels = parse_labels(self.declared, {"face": self.points})
        instance = Instance((0.0, 0.0, 60.0, 60.0), 1, mask, id=position, attributes=labels)
        return Record(image, 60, 60, position, f"{position}.png", (instance,))


def test_parts_covered_by_a_later_chip_are_not_visible():
    declared = Plain.declared
    source = SceneSource(Plain(12), 40, count=(3, 4), max_overlap=0.5, attributes=declared)
    covered = 0
    for record in (source[i] for i in range(40)):
        assert sum(one.segmentation.astype(int) for one in record.instances).max() == 1
        for one in record.instances:
            x1, y1, x2, y2 = (round(value) for value in one.box)  # boxes are not clipped
            assert not one.segmentation[:, :x1].any()
            assert not one.segmentation[:, x2:].any()
            inner = cv2.erode(
                one.segmentation.astype(np.uint8), np.ones((17, 17)), borderValue=0
            ).astype(bool)
            assert (record.image[inner] == 20 * one.id).all()  # without the blended edges
            covered += one.segmentation.sum() < 0.9 * (x2 - x1) * (y2 - y1)
            *visible, hidden, unknown = labels_of(one, declared)["face"]
            assert hidden[2] == 1
            assert len(unknown) == 2
            for x, y, seen in visible:
                assert seen == (2 if one.segmentation[int(y), int(x)] else 1)
                assert x1 < x < x2
                assert y1 < y < y2
    assert covered > 10


def test_fully_covered_instances_are_left_out():
    """Instances without masks are left out of the same scenes as those with masks."""
    bare = Plain(12)
    bare.masks = False
    crowded = dict(size=64, count=(12, 12), sides=(56, 64), max_overlap=1.0)
    source, boxes = (SceneSource(chips, 20, **crowded) for chips in (Plain(12), bare))
    left = []
    for i in range(20):
        instances = source[i].instances
        assert all(one.segmentation.any() for one in instances)
        assert [one.id for one in instances] == [one.id for one in boxes[i].instances]
        left.append(len(instances))
    assert min(left) > 0
    assert max(left) < 12


def test_chips_without_a_free_position_are_left_out():
    source = SceneSource(Chips(12), 0, 0, 64, count=(6, 6), sides=(40, 60))
    records = [source[i] for i in range(len(source))]
    found = [instance.id for record in records for instance in record.instances]
    assert 2 <= len(found) == len(set(found)) < 12
    for record in records:
        boxes = np.array([instance.box for instance in record.instances])
        for box, *later in (boxes[i:] for i in range(len(boxes))):
            for other in later:
                shared = np.clip(np.minimum(box, other)[2:] - np.maximum(box, other)[:2], 0, None)
                assert shared.prod() <= 0.1 * (box[2:] - box[:2]).prod()


def test_wrong_arguments_are_refused():
    with refused("sides", "(50, 500)", "size", 320, error=ValueError):
        SceneSource(Chips(2), sides=(50, 500))
    with refused("count", error=ValueError):
        SceneSource(Chips(2), count=(0, 2))
    with pytest.raises(IndexError):
        SceneSource(Chips(2), 3)[3]


def test_backgrounds_vary():
    source = SceneSource(Chips(50), 30, 4, 96, sides=(20, 40))
    grays = [cv2.cvtColor(source[i].image, cv2.COLOR_RGB2GRAY) for i in range(30)]
    assert np.std([gray.mean() for gray in grays]) > 5
    assert np.mean([gray.std() for gray in grays]) > 15


def test_scenes_keep_hidden_points_and_whether_labels_are_exhaustive():
    class Partly(Chips):
        def __getitem__(self, position):
            chip = super().__getitem__(position)
            (face,) = chip.instances
            labels = {"face": [(None, None, 1), None, (50, 50, 2)]}
            face = replace(face, attributes=parse_labels(FACE, labels))
            gray = chip.image[..., :1]
            return replace(chip, instances=(face,), image=gray, exhaustive=position > 0)

    scenes = SceneSource(Partly(4), count=(1, 1), attributes=FACE)
    records = [scenes[i] for i in range(len(scenes))]
    assert sorted(record.exhaustive for record in records) == [False, True, True, True]
    for record in records:
        hidden, unknown, seen = labels_of(record.instances[0], FACE)["face"]
        assert (hidden, unknown, seen[2]) == ([None, None, 1], None, 2)


def test_chips_with_two_instances_are_refused():
    class Pairs(Chips):
        def __getitem__(self, position):
            chip = super().__getitem__(position)
            return replace(chip, instances=chip.instances * 2)

    with refused("0.png", 2):
        SceneSource(Pairs(1))[0]
