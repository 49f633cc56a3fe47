"""The page of a data set: its numbers are correct, and none of its images is blank."""

import html
import re
from dataclasses import replace

import cv2
import numpy as np
import pytest
import scripts
from faces import DECLARED
from mistakes import check_faults, refused

from mtl_jax.attributes.base import parse_labels
from mtl_jax.attributes.declarations import from_config
from mtl_jax.config.options.data import DataOptions
from mtl_jax.data.datasets.sources import Opened
from mtl_jax.data.datasets.subset import Subset
from mtl_jax.data.face_masks.apply import DrawMasks
from mtl_jax.data.loader.object_counts import count_objects
from mtl_jax.data.records import Category, Instance, Record, Source
from mtl_jax.images.resize import ResizeOptions
from mtl_jax.ops import boxes as box_ops
from mtl_jax.ops.anchors import pyramid_anchors
from mtl_jax.runs.objects import Objects
from mtl_jax.visualize.__main__ import main
from mtl_jax.visualize.data_page.page import Shown, write_data_page
from mtl_jax.visualize.data_page.statistics import best_overlaps, measure, suggest_anchors

STRIDES = (4, 8, 16, 32, 64)
SIZES = ((32,), (64,), (128,), (256,), (512,))
RATIOS = (0.5, 1.0, 2.0)
# The images of matterport's notebooks inspect_data, and their names here.
NOTEBOOK = {
    "display_top_masks": "top_masks",
    "an image with boxes of its masks": "instances",
    "the same after resizing": "resized",
    "full masks": "masks",
    "mini masks": "training_masks",
    "mini masks laid back": "training_masks_overlay",
    "anchors of the centre cell": "anchors",
    "positive anchors with refinement": "anchors_positive",
    "negative anchors": "anchors_negative",
    "neutral anchors": "anchors_neutral",
    "draw_rois": "rois",
    "RoIs and their masks": "roi_masks",
}
MORE = ("samples", "augmented", "classes", "instances_per_image", "image_sizes")
MORE += ("box_sizes", "aspect_ratios", "attribute_age", "attribute_head.yaw")


@pytest.mark.parametrize("name", [*NOTEBOOK.values(), *MORE])
def test_each_image_exists_and_is_not_blank(data_page, name):
    image = cv2.imread(str(data_page / f"{name}.png"))
    assert image.std() > 3


def test_the_page_contains_the_numbers(data_page):
    text = (data_page / "index.html").read_text()
    for expected in ("P2", "config.model.rpn.anchor_sizes", "config.model.rpn.anchor_ratios"):
        assert expected in text
    cells = re.findall('<td class="number">([^<]*)</td>', text.partition("</table>")[0])
    images, measured, empty, objects, *_, mean, most = cells
    assert (images, measured, empty) == ("2,000", "6", "0")
    assert float(mean) == pytest.approx(int(objects) / 6, rel=1e-3)
    assert 1 <= int(most) <= int(objects)
    assert "://" not in text
    sentences, listed = problems(text)
    assert len(sentences) == 1
    assert listed == []


def problems(text):
    """Return the sentences and the list items of the page's second section."""
    part = text.split("<h2>")[2]
    found = (re.findall(f"<{tag}>(.*?)</{tag}>", part) for tag in ("p", "li"))
    return [[html.unescape(line) for line in lines] for lines in found]


class ListSource(list, Source):
    categories = (Category(1, "thing"),)


SQUARE = ResizeOptions("square", 64, 64, ((64, 64),))


def test_damaged_and_dim_images_are_listed(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    jpeg = cv2.imencode(".jpg", image)[1].tobytes()
    middle = len(jpeg) // 2
    (tmp_path / "damaged.jpg").write_bytes(jpeg[:middle] + bytes(100) + jpeg[middle + 100 :])
    cv2.imwrite(str(tmp_path / "dim.png"), image.astype(np.uint16))
    (tmp_path / "good.jpg").write_bytes(jpeg)
    instances = (Instance((5, 5, 40, 30), 1),)
    source = ListSource(
        Record(tmp_path / name, 60, 40, i, name, instances)
        for i, name in enumerate(("damaged.jpg", "dim.png", "good.jpg"))
    )
    opened = Opened((source,), (1.0,), source.categories)
    shown = Shown(opened, (), DataOptions(resize=SQUARE), None)
    listed = problems(write_data_page("three", shown, 10, tmp_path / "page").read_text())[1]
    check_faults(
        sorted(listed), (tmp_path / "damaged.jpg",), (tmp_path / "dim.png", "config.data.levels")
    )
    bright = Subset(source, range(3), levels=(0, 255))
    again = replace(shown, opened=opened._replace(sources=(bright,)))
    listed = problems(write_data_page("three", again, 10, tmp_path / "again").read_text())[1]
    check_faults(listed, (tmp_path / "damaged.jpg",))


def test_unreadable_images_are_listed(tmp_path):
    good, cut, other = (tmp_path / f"{name}.png" for name in ("good", "cut", "other"))
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    cv2.imwrite(str(good), image)
    cut.write_bytes(good.read_bytes()[:900])
    cv2.imwrite(str(other), image[:30])
    instances = (Instance((5, 5, 40, 30), 1),)
    records = [
        Record(path, 60, 40, i, path.name, instances) for i, path in enumerate((good, cut, other))
    ]

    source = ListSource(records)
    opened = Opened((source,), (1.0,), source.categories)
    shown = Shown(opened, (), DataOptions(resize=SQUARE), None)
    # Drawing masks reads the image, which may fail.
    masked = Subset(source, range(3), deferred=(DrawMasks(DECLARED),))
    again = replace(shown, opened=opened._replace(sources=(masked,)))
    text = write_data_page("three", again, 10, tmp_path / "masked").read_text()
    damaged, resized = (cut,), ("other.png", "60 x 30", "60 x 40")
    check_faults(problems(text)[1], damaged, resized)
    text = write_data_page("three", shown, 10, tmp_path / "page").read_text()
    sentences, listed = problems(text)
    check_faults(sentences, (2, "on_error", "skip"))
    check_faults(listed, damaged, resized)


def test_missing_annotations_are_listed(tmp_path):
    image = np.zeros((50, 100, 3), np.uint8)

    attributes = from_config({"head": {"kind": "pose", "angles": ("yaw", "roll")}})

    def page(*instances):
        source = ListSource([Record(image, 100, 50, 1, "a", instances)])
        opened = Opened((source,), (1.0,), source.categories)
        shown = Shown(opened, attributes, DataOptions(resize=SQUARE), None)
        return write_data_page("one", shown, 10, tmp_path / str(len(instances))).read_text()

    turned = parse_labels(attributes, {"head": {"yaw": 5}})
    sentences, listed = problems(page(Instance((0, 0, 10, 20), 1, attributes=turned)))
    check_faults(sentences, (1,))
    assert listed == ["head/roll"]
    sentences, listed = problems(page())
    check_faults(sentences, (1,))
    assert listed == []


def test_objects_that_training_uses_and_loses_are_listed(tmp_path):
    image = np.zeros((50, 100, 3), np.uint8)
    instances = (Instance((0, 0, 10, 20), 1), Instance((0, 0, 9, 9), 1, crowd=True))
    source = ListSource([Record(image, 100, 50, 1, "a", instances)])
    opened = Opened((source,), (1.0,), source.categories, notes=("found 3 of 4",))
    options = DataOptions(resize=SQUARE)
    counts = count_objects((source,), ("thing",), options)
    objects = Objects(counts, counts, ("a warning",), ("a fault",))
    shown = Shown(opened, (), options, None, objects=objects)
    parts = write_data_page("one", shown, 10, tmp_path).read_text().split("<h2>")
    assert re.findall("<li>(.*?)</li>", parts[2]) == ["found 3 of 4"]
    assert re.findall("<td[^>]*>(.*?)</td>", parts[3]) == ["thing", "1", "1", "0", "1", "1", "0"]
    assert re.findall("<li>(.*?)</li>", parts[3]) == ["a fault", "a warning"]


def test_records_are_measured():
    attributes = from_config(
        {
            "age": dict(kind="continuous", range=(0, 90)),
            "sex": dict(kind="categorical", classes=("f", "m")),
            "head": dict(kind="pose", angles=("yaw", "pitch")),
        }
    )
    aged = parse_labels(attributes, {"age": 30, "head": {"yaw": 5}})
    female = parse_labels(attributes, {"sex": "f"})
    instances = (
        Instance((0, 0, 10, 20), 1, attributes=aged),
        Instance((10, 10, 30, 20), 2, [[10, 10, 30, 10, 30, 20]], attributes=female),
        Instance((0, 0, 100, 50), 1, crowd=True),
    )
    image = np.zeros((50, 100, 3), np.uint8)
    records = [Record(image, 100, 50, 1, "a", instances), Record(image, 100, 50, 2, "b")]
    resize = ResizeOptions("square", 50, 50, ((50, 50),))
    found = measure(records, (Category(1, "x"), Category(7, "y")), attributes, resize)
    assert (found.images, found.crowds, found.without_masks) == (2, 1, 1)
    assert found.instances == [2, 0]
    assert found.classes == {"x": 1, "y": 1}
    np.testing.assert_allclose(found.placed, [(0, 0, 5, 10), (5, 5, 15, 10)])
    assert found.values == {"age": [30], "sex": ["f"], "head/yaw": [5], "head/pitch": []}
    assert found.missing == {"age": 1, "sex": 1, "head/yaw": 1, "head/pitch": 2}


def test_the_best_overlap_is_that_with_all_anchors():
    rng = np.random.default_rng(0)
    corners = rng.uniform(100, 400, (40, 2, 2))
    boxes = np.concatenate([corners.min(1), corners.max(1) + 8], 1)
    shapes = [(512 // stride, 512 // stride) for stride in STRIDES]
    strides = np.array([(stride, stride) for stride in STRIDES])
    anchors = pyramid_anchors(shapes, strides, SIZES, RATIOS)
    expected = np.asarray(box_ops.iou(boxes.astype(np.float32), anchors)).max(1)
    np.testing.assert_allclose(best_overlaps(boxes, SIZES, RATIOS, STRIDES), expected, atol=1e-4)


def test_suggested_anchors_fit_boxes_better_than_the_usual_anchors():
    rng = np.random.default_rng(1)
    centers = rng.uniform(50, 450, (200, 2))
    sides = np.stack([rng.uniform(8, 40, 200), rng.uniform(30, 160, 200)], 1)  # narrow and high
    boxes = np.concatenate([centers - sides / 2, centers + sides / 2], 1)
    sizes, ratios = suggest_anchors(boxes, SIZES, STRIDES)
    usual = best_overlaps(boxes, SIZES, RATIOS, STRIDES).mean()
    assert best_overlaps(boxes, sizes, ratios, STRIDES).mean() > usual + 0.1
    assert min(ratios) > 1.5


def test_mistakes_are_one_line(tmp_path):
    config = str(scripts.ROOT / "configs/mtl_synthetic.py:tiny")
    with refused("vall", "train", "val", "test"):
        main(["data", "--config", config, "--output", str(tmp_path), "--split", "vall"])
