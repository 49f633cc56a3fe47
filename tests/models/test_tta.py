"""Test-time augmentation: mirrored and resized views of an image have one merged result."""

from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mistakes import refused
from oracles import nms
from scenes import ATTRIBUTES, TINY, compile_model, random_batch

from mtl_jax.config.options.evaluation import ViewOptions
from mtl_jax.images.geometry import Geometry, scale_geometry
from mtl_jax.models.attribute_heads.heads import head_of
from mtl_jax.models.mask_rcnn.network import mask_rcnn
from mtl_jax.models.tta import Described, View, make_views

SIZES = np.array([[90, 70], [60, 96]], np.float32)
OPTIONS = replace(TINY, detection=replace(TINY.detection, score_threshold=0.0))
VIEWS = (View(), View(mirrored=True), View(0.5), View(0.5, mirrored=True))


def batch_of(images):
    """Return a batch of two images of `SIZES`, with gray padding."""
    padded = np.full((2, 96, 96, 3), 99, np.uint8)
    for row, image in zip(padded, images, strict=True):
        row[: image.shape[0], : image.shape[1]] = image
    return random_batch(size=96)._replace(images=padded, sizes=SIZES)


def draw_images():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), np.uint8) for size in SIZES.astype(int)]


@cache
def detector(views):
    """Compile the tiny model's detection with `views`."""
    compiled = compile_model(
        mask_rcnn(OPTIONS, 3, ATTRIBUTES, views=views), batch_of(draw_images())
    )
    return partial(compiled.predict, compiled.variables)


def predict(batch, views):
    return jax.device_get(detector(views)(batch))


def test_scales_of_views_are_relative_to_the_largest():
    assert make_views(ViewOptions()) == (View(),)
    assert make_views(ViewOptions(True, (0.5, 2.0))) == (
        View(0.25),
        View(0.25, True),
        View(),
        View(1.0, True),
    )
    with refused("scales", error=ValueError):
        ViewOptions(scales=(0.0, 1.0))


def test_a_mirrored_image_starts_at_the_left():
    images = draw_images()
    seen = View(mirrored=True).show(batch_of(images).inputs)
    for row, image, (height, width) in zip(seen.images, images, SIZES.astype(int), strict=True):
        np.testing.assert_array_equal(row[:height, :width], image[:, ::-1])
    np.testing.assert_array_equal(seen.sizes, SIZES)


def test_a_smaller_view_contains_the_whole_image_and_no_padding():
    ramps = [
        np.broadcast_to(np.arange(int(w), dtype=np.uint8)[:, None] * 2, (int(h), int(w), 3))
        for h, w in SIZES
    ]
    seen = View(0.5).show(batch_of(ramps).inputs)
    np.testing.assert_array_equal(seen.sizes, SIZES / 2)
    for row, (height, width) in zip(seen.images, (SIZES / 2).astype(int), strict=True):
        # A cell of the half size covers pixels 2 i and 2 i + 1, whose values are 4 i and 4 i + 2.
        inner = np.asarray(row)[:height, 1 : width - 1]
        expected = np.broadcast_to(4.0 * np.arange(1, width - 1)[:, None] + 1, inner.shape)
        np.testing.assert_allclose(inner, expected, atol=1e-3)
        assert row[:height, width - 1].min() > 4 * (width - 1) - 2  # 99, the gray, is far from it
    assert seen.images.shape == (2, 64, 64, 3)


def test_boxes_are_converted_to_a_view_and_back():
    batch = batch_of(draw_images()).inputs
    boxes = np.array([[[10, 20, 30, 60]], [[0, 0, 96, 60]]], np.float32)
    for view in VIEWS:
        seen = view.show(batch)
        there = np.asarray(view.boxes(boxes, batch, seen))
        for box, moved, (h, w), size in zip(boxes, there, SIZES, seen.sizes, strict=True):
            whole = (int(size[0]), int(size[1]))
            geometry = scale_geometry(int(h), int(w), whole, mirrored=view.mirrored)
            np.testing.assert_allclose(moved, geometry.boxes(box), atol=1e-4)
        np.testing.assert_allclose(view.boxes_back(there, batch, seen), boxes, atol=1e-4)


@pytest.mark.parametrize("attribute", ATTRIBUTES, ids=lambda attribute: attribute.name)
def test_predictions_of_a_mirrored_view_are_mirrored_back(attribute):
    boxes = jnp.array([[10.0, 20.0, 30.0, 60.0]])
    mirrored = jnp.array([[70.0, 20.0, 90.0, 60.0]])  # in an image of width 100
    outputs = jax.random.normal(jax.random.key(0), (1, head_of(attribute).output_size))
    seen = head_of(attribute).decode(outputs, mirrored)
    described = Described(None, {attribute.name: seen[None]})
    back = View(mirrored=True).described_back(described, [attribute]).attributes[attribute.name][0]
    expected = attribute.move_prediction(
        np.asarray(head_of(attribute).place(seen, mirrored)), Geometry(-1.0, 1.0, 100.0, 0.0)
    )
    np.testing.assert_allclose(head_of(attribute).place(back, boxes), expected, atol=1e-4)


@pytest.mark.slow
def test_with_all_views_a_mirrored_image_has_mirrored_detections():
    images = draw_images()
    found = predict(batch_of(images), VIEWS)
    other = predict(batch_of([image[:, ::-1] for image in images]), VIEWS)
    assert found.valid.all()
    np.testing.assert_allclose(found.scores, other.scores, atol=1e-5)
    np.testing.assert_array_equal(found.classes, other.classes)
    np.testing.assert_allclose(found.masks, other.masks[..., ::-1], atol=1e-4)
    for row, (_, width) in enumerate(SIZES):
        mirror = Geometry(-1.0, 1.0, float(width), 0.0)
        np.testing.assert_allclose(found.boxes[row], mirror.boxes(other.boxes[row]), atol=1e-2)
        for attribute in ATTRIBUTES:
            turned = attribute.move_prediction(other.attributes[attribute.name][row], mirror)
            np.testing.assert_allclose(
                found.attributes[attribute.name][row], turned, atol=1e-2, err_msg=attribute.name
            )


@pytest.mark.slow
def test_views_are_merged_by_nms():
    batch = batch_of(draw_images())
    merged = predict(batch, VIEWS)
    each = [predict(batch, (view,)) for view in VIEWS]
    for row in range(2):
        boxes, scores, classes = (
            np.concatenate([getattr(found, name)[row] for found in each])
            for name in ("boxes", "scores", "classes")
        )
        valid = np.ones(len(boxes), bool)
        kept = nms(boxes, scores, valid, OPTIONS.detection.nms_iou, classes)
        kept = kept[: OPTIONS.detection.max_detections]
        np.testing.assert_allclose(merged.scores[row], scores[kept], atol=1e-6)
        np.testing.assert_allclose(merged.boxes[row], boxes[kept], atol=1e-3)
        np.testing.assert_array_equal(merged.classes[row], classes[kept])


@pytest.mark.slow
def test_the_same_view_twice_has_the_same_result():
    batch = batch_of(draw_images())
    for a, b in zip(
        jax.tree.leaves(predict(batch, (View(),))),
        jax.tree.leaves(predict(batch, (View(), View()))),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, atol=1e-4)
