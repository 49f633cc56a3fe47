import cv2
import numpy as np

from mtl_jax.attributes.base import parse_labels
from mtl_jax.attributes.declarations import from_config
from mtl_jax.config.options.data import DataOptions
from mtl_jax.data.loader import transforms
from mtl_jax.data.records import Category, Instance, Record
from mtl_jax.data.segmentation import to_mask
from mtl_jax.images.resize import ResizeOptions
from mtl_jax.visualize.drawing.annotations import record_result, row_result
from mtl_jax.visualize.drawing.draw import draw, label_lines

HEIGHT, WIDTH = 60, 90
IMAGE = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
CATEGORIES = (Category(3, "cat"), Category(5, "dog"))
ATTRIBUTES = from_config(
    {
        "age": dict(kind="continuous", range=(0, 90)),
        "sex": dict(kind="categorical", classes=("f", "m")),
        "head": dict(kind="pose"),
    }
)
POLYGON = [[10, 10, 50, 10, 50, 40]]
LABELS = [parse_labels(ATTRIBUTES, raw) for raw in ({"age": 4, "head": {"yaw": 9}}, {"sex": "m"})]
INSTANCES = (
    Instance((10, 10, 50, 40), 2, POLYGON, attributes=LABELS[0]),
    Instance((60, 5, 80, 50), 1, attributes=LABELS[1]),
    Instance((0, 0, 90, 60), 1, crowd=True),
)
RECORD = Record(IMAGE, WIDTH, HEIGHT, 1, "a.png", INSTANCES)


def check(result):
    assert result.class_names == ("dog", "cat")
    assert result.category_ids.tolist() == [5, 3]
    assert label_lines(result, 0) == ["dog", "age 4", "yaw +9"]
    assert label_lines(result, 1) == ["cat", "m"]
    assert np.isnan(result.attributes["head"][0]).tolist() == [False, True, True]


def test_a_record_is_drawn_as_annotated():
    result = record_result(RECORD, CATEGORIES, ATTRIBUTES)
    check(result)
    np.testing.assert_array_equal(result.boxes, [instance.box for instance in INSTANCES[:2]])
    # A pasted mask is correct to within a pixel.
    expected, around = to_mask(POLYGON, HEIGHT, WIDTH).astype(np.uint8), np.ones((3, 3), np.uint8)
    assert not (result.masks[0] & (cv2.dilate(expected, around) == 0)).any()
    assert not (~result.masks[0] & (cv2.erode(expected, around) == 1)).any()
    assert not result.masks[1].any()
    assert draw(IMAGE, result).shape == IMAGE.shape


def test_a_row_is_drawn_as_used_in_training():
    resize = ResizeOptions("square", 180, 180, ((180, 180),))
    options = DataOptions(resize=resize, mask_size=28, max_instances=4)
    row = transforms.load(RECORD, 0, ATTRIBUTES, options)
    result = row_result(row, CATEGORIES, ATTRIBUTES, False)
    check(result)
    np.testing.assert_allclose(
        result.boxes, 2 * np.array([instance.box for instance in INSTANCES[:2]])
    )
    assert abs(result.masks[0].sum() / 4 / to_mask(POLYGON, HEIGHT, WIDTH).sum() - 1) < 0.05


def test_a_record_without_instances_is_drawn():
    result = record_result(Record(IMAGE, WIDTH, HEIGHT, 1, "a.png"), CATEGORIES, ATTRIBUTES)
    np.testing.assert_array_equal(draw(IMAGE, result), IMAGE)
