"""LabelMe's shapes, groups and layouts, and broken versions of each."""

import base64
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from annotated import (
    HEIGHT,
    WIDTH,
    check_lines,
    faults,
    labels_of,
    mask_of,
    open_format,
    write_picture,
)
from mistakes import refused

from mtl_jax.attributes import declarations as attribute_kinds
from mtl_jax.data.readers.format import Labels


def png(mask) -> str:
    return base64.b64encode(cv2.imencode(".png", np.asarray(mask, np.uint8))[1].tobytes()).decode()


BLOB = np.tril(np.ones((20, 30)))
TRIANGLE = dict(label="cat", shape_type="polygon", points=[[10, 10], [50, 10], [10, 50]])
RECTANGLE = dict(label="cat", shape_type="rectangle", points=[[40, 60], [10, 20]])
CIRCLE = dict(label="dog", shape_type="circle", points=[[50, 40], [50, 60]])
MASK = dict(label="dog", shape_type="mask", points=[[5, 6], [34, 25]], mask=png(BLOB))
SHAPES = [TRIANGLE, RECTANGLE, CIRCLE, MASK]


def write(folder: Path, shapes, name="a", **more) -> Path:
    write_picture(folder / f"{name}.png")
    content = dict(version="5.2.1", flags={}, shapes=shapes, imagePath=f"{name}.png")
    content |= dict(imageData=None, imageHeight=HEIGHT, imageWidth=WIDTH) | more
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content))
    return path


def test_every_shape_is_read(tmp_path):
    write(tmp_path, SHAPES)
    write(tmp_path, [], "b")
    source = open_format("labelme", tmp_path)
    assert [category.name for category in source.categories] == ["cat", "dog"]
    triangle, rectangle, circle, mask = source[0].instances
    assert triangle.box == (10, 10, 50, 50)
    assert (rectangle.box, rectangle.segmentation) == ((10, 20, 40, 60), None)
    np.testing.assert_allclose(circle.box, (30, 20, 70, 60), atol=0.2)
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[6:26, 5:35] = BLOB
    np.testing.assert_array_equal(mask_of(mask), expected)
    assert source[1].instances == ()


@pytest.mark.parametrize("more", [{}, {"group_id": 1}])
def test_a_rectangle_may_have_four_corners(tmp_path, more):
    corners = [[10.5, 20], [40, 20], [40, 60], [10.5, 60]]
    write(tmp_path, [{**RECTANGLE, "points": corners, **more}])
    (rectangle,) = open_format("labelme", tmp_path)[0].instances
    assert (rectangle.box, rectangle.segmentation) == ((10.5, 20, 40, 60), None)


def test_shapes_of_a_group_are_one_instance(tmp_path):
    lower = {**TRIANGLE, "points": [[60, 60], [80, 60], [80, 75]]}
    groups = [
        [{**TRIANGLE, "group_id": 1}, {**lower, "group_id": 1}, {**lower, "group_id": 2}],
        [{**MASK, "group_id": 1}, {**CIRCLE, "group_id": 1}],
        [{**RECTANGLE, "group_id": 1}, {**TRIANGLE, "group_id": 1}],
    ]
    for i, shapes in enumerate(groups):
        write(tmp_path, shapes, f"{i}")
    source = open_format("labelme", tmp_path)
    assert [len(source[i].instances) for i in range(3)] == [2, 1, 1]
    assert source[0].instances[0].box == (10, 10, 80, 75)
    parts = [mask_of(instance) for instance in open_alone(tmp_path / "alone", [MASK, CIRCLE])]
    np.testing.assert_array_equal(mask_of(source[1].instances[0]), parts[0] | parts[1])
    mask = mask_of(source[2].instances[0])
    assert mask[21:59, 11:39].all()
    assert mask[11, 45]


def open_alone(folder: Path, shapes):
    write(folder, shapes)
    return open_format("labelme", folder)[0].instances


def test_flags_attributes_and_descriptions_are_labels(tmp_path):
    shape = {
        **TRIANGLE,
        "flags": {"hidden": True},
        "attributes": {"age": 3},
        "description": "tabby",
    }
    write(tmp_path, [shape, {**TRIANGLE, "flags": {"hidden": False}}])
    declared = attribute_kinds.from_config(
        {
            "hidden": dict(kind="categorical", classes=("no", "yes")),
            "age": dict(kind="continuous", range=(0, 20)),
            "coat": dict(kind="categorical", classes=("plain", "tabby")),
        }
    )
    labels = Labels(declared, {"coat": "description"})
    first, second = open_format("labelme", tmp_path, labels)[0].instances
    assert labels_of(first, declared) == {"hidden": "yes", "age": 3, "coat": "tabby"}
    assert labels_of(second, declared) == {"hidden": "no"}


def test_images_may_be_in_another_folder(tmp_path):
    path = write(tmp_path / "labels", [TRIANGLE], imageData="aGVsbG8=")
    (tmp_path / "images").mkdir()
    (tmp_path / "labels/a.png").rename(tmp_path / "images/a.png")
    for image_path in ("..\\images\\a.png", "C:\\Users\\me\\a.png"):
        content = {**json.loads(path.read_text()), "imagePath": image_path}
        path.write_text(json.dumps(content))
        source = open_format("labelme", tmp_path, annotations="labels", images="images")
        assert source[0].file_name == "a.png"
        assert source[0].image.is_file()


def test_missing_sizes_are_read_from_images(tmp_path):
    path = write(tmp_path, [TRIANGLE])
    content = {**json.loads(path.read_text()), "imageHeight": None, "imageWidth": None}
    path.write_text(json.dumps(content))
    record = open_format("labelme", tmp_path)[0]
    assert (record.height, record.width) == (HEIGHT, WIDTH)


BROKEN = {
    "a point": ({**TRIANGLE, "shape_type": "point"}, ("point",)),
    "two corners": ({**TRIANGLE, "points": [[1, 2], [3, 4]]}, (4,)),
    "one corner": ({**RECTANGLE, "points": [[1, 2]]}, ("rectangle", 1, 2)),
    "three corners": ({**RECTANGLE, "points": [[1, 2], [9, 2], [9, 8]]}, ("rectangle", 3, 2)),
    "text": ({**TRIANGLE, "points": [["1", 2]]}, ("points",)),
    "not finite": ({**TRIANGLE, "points": [[float("inf"), 2]]}, ("points",)),
    "no points": ({"label": "cat"}, ("points",)),
    "no label": ({**TRIANGLE, "label": ""}, ("label",)),
    "no shape": ("x", ("label",)),
    "outside": (
        {**RECTANGLE, "points": [[1, 2], [300, 4]]},
        ("[1, 2, 299, 2]", 200, WIDTH, HEIGHT),
    ),
    "no mask": ({**MASK, "mask": None}, ("mask",)),
    "no PNG": ({**MASK, "mask": "aGVsbG8="}, ("mask",)),
    "an empty mask": ({**MASK, "mask": png(np.zeros((3, 3)))}, ("mask",)),
    "a mask outside": (
        {**MASK, "points": [[90, 6], [119, 25]]},
        ("mask", 30, 20, 90, 6, WIDTH, HEIGHT),
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_shape_is_one_line_that_names_it(tmp_path, what):
    shape, named = BROKEN[what]
    write(tmp_path, [TRIANGLE, shape])
    check_lines(faults("labelme", tmp_path), tmp_path, ("a.json", "shapes[1]", *named))
    source = open_format("labelme", tmp_path, Labels(on_error="skip"))
    assert len(source[0].instances) == 1


@pytest.mark.parametrize("points", [[], [[1, 2]], [[1, 2], [3, 4]]])
def test_a_stray_click_in_a_group_is_named(tmp_path, points):
    stray = {**TRIANGLE, "points": points, "label": "dog", "group_id": 1}
    write(tmp_path, [TRIANGLE, {**MASK, "group_id": 1}, stray])
    check_lines(faults("labelme", tmp_path), tmp_path, ("a.json", "shapes[1]", 3))
    source = open_format("labelme", tmp_path, Labels(on_error="skip"))
    assert len(source[0].instances) == 1


FILES = {
    "truncated": ('{"shapes": [', ("b.json",)),
    "another JSON": ('{"images": []}', ("b.json", "shapes")),
    "no image": ('{"shapes": []}', ("b.json", "imagePath", None)),
    "a missing image": ('{"shapes": [], "imagePath": "c.png"}', ("c.png",)),
}


@pytest.mark.parametrize("what", FILES)
def test_a_broken_file_is_one_line_that_names_it(tmp_path, what):
    text, named = FILES[what]
    write(tmp_path, [TRIANGLE])
    (tmp_path / "b.json").write_text(text)
    check_lines(faults("labelme", tmp_path), tmp_path, named)


def test_a_folder_without_files_is_one_line(tmp_path):
    with refused(tmp_path, ".json"):
        open_format("labelme", tmp_path)


FAR = [[1, 1], [1e7, 2], [3, 30]]
OUTSIDE = [[100001, 1], [100030, 2], [100003, 30]]


@pytest.mark.parametrize(
    "shape",
    [
        {**TRIANGLE, "points": FAR},
        {**TRIANGLE, "points": OUTSIDE},
        {**RECTANGLE, "points": [[1e9, 1], [2e9, 2]]},
        {**CIRCLE, "points": [[1e8, 1], [1e9, 1]]},
    ],
)
@pytest.mark.parametrize("more", [{}, {"group_id": 1}])
def test_a_part_outside_the_image_is_named_before_it_is_rasterised(tmp_path, shape, more):
    write(tmp_path, [{**shape, **more}, {**RECTANGLE, "label": shape["label"], **more}])
    write(tmp_path, SHAPES, "b")
    check_lines(faults("labelme", tmp_path), tmp_path, ("a.json", "shapes[0]", "px"))


@pytest.mark.parametrize("more", [{}, {"group_id": 1}])
def test_a_size_beyond_the_limit_is_named_before_anything_is_rasterised(tmp_path, more):
    shapes = [{**shape, "label": "cat", **more} for shape in (TRIANGLE, RECTANGLE, MASK)]
    write(tmp_path, shapes, imageWidth=100_000, imageHeight=100_000)
    write(tmp_path, SHAPES, "b")
    check_lines(faults("labelme", tmp_path), tmp_path, ("a.json", 100000))


def test_a_mask_that_claims_a_large_size_is_named_before_it_is_decoded(tmp_path):
    data = bytearray(base64.b64decode(png(BLOB)))
    data[16:24] = (30_000).to_bytes(4, "big") * 2
    gif = b"GIF89a" + b"\x10\0" * 20
    for mask, named in ((bytes(data), 30000), (gif, "PNG")):
        write(tmp_path, [{**MASK, "mask": base64.b64encode(mask).decode()}, TRIANGLE])
        check_lines(faults("labelme", tmp_path), tmp_path, ("a.json", "shapes[0]", named))
