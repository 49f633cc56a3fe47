import json

import numpy as np
import pytest
from mistakes import refused
from pycocotools import mask as coco_mask

from mtl_jax.attributes.declarations import from_config
from mtl_jax.data.records import Category
from mtl_jax.data.segmentation import encode
from mtl_jax.images.geometry import Geometry
from mtl_jax.ops.masks import mask_targets
from mtl_jax.results import Result, paste_mask
from mtl_jax.types import Detections

# pycocotools 2.0.11 decodes with a protocol that is deprecated in NumPy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

ATTRIBUTES = from_config(
    {
        "age": {"kind": "continuous", "range": (0, 116)},
        "head": {"kind": "pose", "angles": ("yaw", "pitch")},
        "eyes": {"kind": "landmarks", "points": ("left", "right"), "flip": (("left", "right"),)},
    }
)
IDENTITY = Geometry()
CATEGORIES = (Category(7, "cat"), Category(90, "dog"))


def detections(**changes):
    """Return a batch of two equal rows: two detections, with an invalid slot between them."""
    boxes = np.array([[20, 10, 60, 50], [np.nan, 1e30, -1e30, np.inf], [2, 4, 12, 24]])
    first = {
        "boxes": boxes,
        "scores": np.array([0.6, np.nan, 0.9]),
        "classes": np.array([1, 999, 2]),
        "valid": np.array([True, False, True]),
        "masks": np.random.default_rng(0).random((3, 28, 28)),
        "attributes": {
            "age": np.array([[30.0], [np.nan], [50.0]]),
            "head": np.array([[10.0, 20.0], [np.nan, np.nan], [-30.0, 5.0]]),
            "eyes": np.array([[30, 20, 0.9, 50, 22, 0.1]] * 3),
        },
    }
    first |= changes
    stacked = {
        key: {name: np.stack([v, v]).astype(np.float32) for name, v in value.items()}
        if isinstance(value, dict)
        else (None if value is None else np.stack([value, value]))
        for key, value in first.items()
    }
    return Detections(**stacked)


def read(geometry=IDENTITY, height=100, width=100, **changes):
    return Result.from_detections(
        detections(**changes),
        0,
        geometry,
        height,
        width,
        categories=CATEGORIES,
        declared=ATTRIBUTES,
    )


def random_box(rng, low, high):
    x, y = np.sort(rng.uniform(low, high, 2)), np.sort(rng.uniform(low, high, 2))
    return np.array([x[0], y[0], x[1], y[1]], np.float32)


def paste_slowly(probabilities, box, height, width):
    """Paste a mask pixel by pixel: pad by one cell, enlarge the box, resize to whole pixels."""
    side = len(probabilities)
    padded = np.zeros((side + 2, side + 2))
    padded[1:-1, 1:-1] = probabilities
    x1, y1, x2, y2 = box.astype(float)
    more_x, more_y = (x2 - x1) / side, (y2 - y1) / side
    left, top, right, bottom = (
        int(v) for v in (x1 - more_x, y1 - more_y, x2 + more_x, y2 + more_y)
    )
    w, h = max(right - left + 1, 1), max(bottom - top + 1, 1)
    out = np.zeros((height, width), bool)
    for y in range(max(top, 0), min(top + h, height)):
        for x in range(max(left, 0), min(left + w, width)):
            u = max((x - left + 0.5) * (side + 2) / w - 0.5, 0)
            v = max((y - top + 0.5) * (side + 2) / h - 0.5, 0)
            i, j = int(v), int(u)
            i1, j1 = min(i + 1, side + 1), min(j + 1, side + 1)
            above = padded[i, j] * (1 - u + j) + padded[i, j1] * (u - j)
            below = padded[i1, j] * (1 - u + j) + padded[i1, j1] * (u - j)
            out[y, x] = above * (1 - v + i) + below * (v - i) > 0.5
    return out


def test_paste_equals_slow_paste():
    rng = np.random.default_rng(1)
    different, pixels = 0, 0
    for side in (1, 7, 28, 28, 28):
        for _ in range(8):
            mask, box = rng.random((side, side)), random_box(rng, -15, 55)
            pasted = paste_mask(mask, box, 37, 41)
            different += (pasted != paste_slowly(mask, box, 37, 41)).sum()
            pixels += pasted.size
    assert different <= pixels * 1e-3


def test_paste_equals_torchvision():
    torch = pytest.importorskip("torch")
    roi_heads = pytest.importorskip("torchvision.models.detection.roi_heads")
    rng = np.random.default_rng(2)
    different, pixels = 0, 0
    for _ in range(200):
        height, width = (int(v) for v in rng.integers(2, 150, 2))
        mask = rng.random((28, 28), np.float32)
        box = np.clip(random_box(rng, -30, 150), 0, [width, height, width, height])
        box = box.astype(np.float32)
        peer = roi_heads.paste_masks_in_image(
            torch.tensor(mask)[None, None], torch.tensor(box)[None], (height, width)
        )
        pasted = paste_mask(mask, box, height, width)
        different += (pasted != (peer[0, 0] > 0.5).numpy()).sum()
        pixels += pasted.size
    assert pixels > 1e6
    assert different <= pixels * 1e-3


def test_an_exact_paste_samples_the_centres_of_pixels():
    rng = np.random.default_rng(4)
    for side in (1, 7, 28):
        for _ in range(8):
            mask, box = rng.random((side, side)), random_box(rng, -15, 55).astype(float)
            expected = np.zeros((37, 41), bool)
            for y, x in np.ndindex(37, 41):
                if box[0] <= x + 0.5 < box[2] and box[1] <= y + 0.5 < box[3]:
                    u = np.clip((x + 0.5 - box[0]) / (box[2] - box[0]) * side - 0.5, 0, side - 1)
                    v = np.clip((y + 0.5 - box[1]) / (box[3] - box[1]) * side - 0.5, 0, side - 1)
                    i, j = min(int(v), side - 2) if side > 1 else 0, min(int(u), side - 2)
                    j = max(j, 0)
                    cells = mask[i : i + 2, j : j + 2]
                    rows = np.array([1 - (v - i), v - i])[: len(cells)]
                    across = np.array([1 - (u - j), u - j])[: cells.shape[1]]
                    expected[y, x] = rows @ cells @ across > 0.5
            np.testing.assert_array_equal(paste_mask(mask, box, 37, 41, exact=True), expected)


def test_exact_targets_are_pasted_back():
    """A mask on the 28 x 28 grid of its box, and back in pixels, loses less than torchvision's."""
    rng = np.random.default_rng(5)
    overlaps = {exact: [] for exact in (False, True)}
    for _ in range(20):
        box = np.array([0, 0, *rng.uniform(8, 60, 2)]) + np.tile(rng.uniform(2, 30, 2), 2)
        y, x = np.mgrid[:96, :96] + 0.5
        centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
        truth = ((x - centre[0]) / half[0]) ** 2 + ((y - centre[1]) / half[1]) ** 2 <= 1
        pixels = 255 * truth[None].astype(np.uint8)
        frame, index = np.array([[0, 0, 96, 96]], np.float32), np.zeros(1, int)
        boxes = box[None].astype(np.float32)
        for exact, found in overlaps.items():
            target = np.asarray(mask_targets(pixels, frame, boxes, index, 28, aligned=exact)[0])
            back = paste_mask(target, box, 96, 96, exact=exact)
            found.append((back & truth).sum() / (back | truth).sum())
    assert np.mean(overlaps[True]) > 0.98
    assert np.mean(overlaps[True]) > np.mean(overlaps[False]) + 0.05


@pytest.mark.parametrize(
    "box",
    [(200, 200, 260, 250), (-90, -80, -40, -50), (10, -60, 30, -40), (-1e9, -1e9, -1e8, -1e8)],
)
@pytest.mark.parametrize("exact", [False, True])
def test_paste_outside_is_empty(box, exact):
    assert not paste_mask(np.ones((28, 28)), np.array(box), 40, 50, exact).any()


def test_paste_of_a_full_mask_fills_its_box():
    pasted = paste_mask(np.ones((28, 28)), np.array([10.0, 5.0, 30.0, 25.0]), 40, 50)
    assert pasted[6:24, 11:29].all()
    pasted[4:27, 9:32] = False
    assert not pasted.any()


def test_paste_of_a_box_without_size_and_of_a_huge_one():
    assert paste_mask(np.ones((28, 28)), np.array([5.0, 5.0, 5.0, 5.0]), 9, 9).sum() <= 1
    huge = np.array([-1e6, -1e6, 1e6, 1e6])
    assert paste_mask(np.ones((28, 28)), huge, 9, 9).all()


def test_encode_equals_pycocotools():
    rng = np.random.default_rng(3)
    windows = [(0, 0, 11, 13), (5, 6, 6, 7), (0, 0, 1, 1), (2, 3, 0, 0), (10, 12, 1, 1)]
    for y, x, h, w in windows:
        for density in (0.0, 0.3, 1.0):
            whole = np.zeros((11, 13), np.uint8)
            crop = rng.random((h, w)) < density
            whole[y : y + h, x : x + w] = crop
            expected = coco_mask.encode(np.asfortranarray(whole))["counts"].decode()
            assert encode(crop, y, x, 11, 13) == {"size": [11, 13], "counts": expected}


def test_rle_is_the_pasted_mask():
    result = read()
    for i, mask in enumerate(result.masks):
        assert mask.any()
        np.testing.assert_array_equal(coco_mask.decode(result.rle(i)), mask)
        np.testing.assert_array_equal(
            mask, paste_mask(result.mask_probabilities[i], result.boxes[i], 100, 100)
        )


def test_valid_slots_come_highest_score_first():
    result = read()
    assert len(result) == 2
    np.testing.assert_allclose(result.scores, [0.9, 0.6])
    assert result.class_names == ("dog", "cat")
    assert result.category_ids.tolist() == [90, 7]
    np.testing.assert_allclose(result.boxes, [[2, 4, 12, 24], [20, 10, 60, 50]])
    np.testing.assert_allclose(result.attributes["age"][:, 0], [50, 30])


def test_geometry_is_inverted():
    # Scaled by 2 in x and by 3 in y, moved by (-4, 6).
    result = read(Geometry(2, 3, -4, 6))
    np.testing.assert_allclose(result.boxes[1], [12, 4 / 3, 32, 44 / 3], rtol=1e-6)
    eyes = result.attributes["eyes"][1].reshape(2, 3)
    np.testing.assert_allclose(eyes, [[17, 14 / 3, 0.9], [27, 16 / 3, 0.1]], rtol=1e-6)


def test_results_of_a_mirrored_input_are_mirrored():
    mirror = Geometry(-1, 1, 100, 0)
    plain, mirrored = read(), read(mirror)
    np.testing.assert_allclose(mirrored.boxes, mirror.boxes(plain.boxes), atol=1e-4)
    np.testing.assert_allclose(
        mirrored.attributes["head"], plain.attributes["head"] * [-1, 1], atol=1e-5
    )
    left, right = mirrored.attributes["eyes"][1].reshape(2, 3)
    np.testing.assert_allclose(right, [70, 20, 0.9], rtol=1e-6)
    np.testing.assert_allclose(left, [50, 22, 0.1], rtol=1e-6)
    np.testing.assert_array_equal(mirrored.mask_probabilities, plain.mask_probabilities[:, :, ::-1])


def test_boxes_are_clipped_to_the_image_and_masks_keep_their_place():
    result = read(height=40, width=50)
    np.testing.assert_allclose(result.boxes[1], [20, 10, 50, 40])
    np.testing.assert_array_equal(result.masks[1], read().masks[1][:40, :50])


def test_min_score():
    result = Result.from_detections(
        detections(), 1, Geometry(), 100, 100, categories=CATEGORIES, min_score=0.7
    )
    assert result.class_names == ("dog",)
    assert result.attributes == {}


def test_json_is_in_cocos_results_format():
    entries = json.loads(json.dumps(read().to_json(42, "a/b.jpg"), allow_nan=False))
    assert len(entries) == 2
    entry = entries[1]
    segmentation = entry.pop("segmentation")
    np.testing.assert_array_equal(coco_mask.decode(segmentation), read().masks[1])
    assert entry == {
        "image_id": 42,
        "file_name": "a/b.jpg",
        "category_id": 7,
        "category": "cat",
        "bbox": [20, 10, 40, 40],
        "score": 0.6,
        "attributes": {
            "age": {"value": 30},
            "head": {"yaw": 10, "pitch": 20},
            "eyes": {"points": [[30, 20, 0.9], [50, 22, 0.1]]},
        },
    }


def test_without_masks():
    result = read(masks=None)
    assert result.masks is None
    assert "segmentation" not in result.to_json(0, "a.jpg")[0]
    with refused(error=ValueError):
        result.rle(0)


def test_a_result_without_detections():
    result = read(valid=np.zeros(3, bool))
    assert result.to_json(0, "a.jpg") == []
    assert result.masks.shape == (0, 100, 100)
    assert result.boxes.shape == (0, 4)
    assert result.attributes["head"].shape == (0, 2)
