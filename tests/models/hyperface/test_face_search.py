"""Iterative Region Proposals and L-NMS, with the network replaced by a few lines of geometry.

The image's pixel values are their x and y, so that a region's values determine its position.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from faces import DECLARED
from mistakes import refused

from mtl_jax.attributes.categorical import Categorical
from mtl_jax.config.options.hyperface import (
    FACE_TEMPLATE,
    FaceDetectionOptions,
    HyperFaceOptions,
    WindowOptions,
)
from mtl_jax.models.hyperface.face_rectangle import FaceRectangle
from mtl_jax.models.hyperface.face_search import Search
from mtl_jax.ops.windows import sliding_windows
from mtl_jax.types import Proposals

HEIGHT, WIDTH, SIDE = 64, 120, 16
TEMPLATE = np.array(FACE_TEMPLATE)
RECTANGLE = np.array([0.0, 0.2, 3.4, 3.6], np.float32)
OPTIONS = HyperFaceOptions(
    trunk="resnet",
    input_size=SIDE,
    windows=WindowOptions(16, 1.4, 0.2),
    detection=FaceDetectionOptions(chunk=50),
)
RAMP = np.stack(np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5), -1)
IMAGE = np.concatenate([RAMP, np.zeros((HEIGHT, WIDTH, 1))], -1).astype(np.float32)
# Two pairs of touching faces; the left half of the last face is hidden.
CENTRES = np.array([[24, 30], [51, 30], [78, 32], [105, 32]], np.float32)
SCALES = np.array([8, 8, 7.8, 7], np.float32)
POINTS = CENTRES[:, None] + SCALES[:, None, None] * TEMPLATE
HIDDEN = (np.arange(4) == 3)[:, None] & (TEMPLATE[:, 0] < -0.8)
YAW = np.array([-30, 0, 10, 60], np.float32)
(FACE,) = (a for a in DECLARED if a.name == "face")


def boxes_of(centres, scales):
    middle = centres + scales[:, None] * RECTANGLE[:2]
    half = scales[:, None] * RECTANGLE[2:] / 2
    return np.concatenate([middle - half, middle + half], 1)


BOXES = boxes_of(CENTRES, SCALES)


def answers(boxes, xp=jnp):
    """Predict for each box the face that it overlaps most, with its IoU as the score.

    The points are the face's, moved by a third towards the template placed in the box.
    """
    low = xp.maximum(boxes[:, None, :2], BOXES[:, :2])
    high = xp.minimum(boxes[:, None, 2:], BOXES[:, 2:])
    common = xp.prod(xp.clip(high - low, 0, None), -1)
    areas = xp.prod(boxes[:, 2:] - boxes[:, :2], -1)[:, None] + np.prod(
        BOXES[:, 2:] - BOXES[:, :2], -1
    )
    iou = common / (areas - common)
    best = xp.argmax(iou, 1)
    score = xp.clip(xp.max(iou, 1), 0.01, 0.99)
    middle, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    own = middle[:, None] + sides[:, None] * (TEMPLATE - RECTANGLE[:2]) / RECTANGLE[2:]
    points = xp.asarray(POINTS)[best] * 2 / 3 + own / 3
    return score, points, xp.asarray(HIDDEN)[best], xp.asarray(YAW)[best]


def look(regions, valid):
    del valid
    x, y = regions[:, :, :, 0], regions[:, :, :, 1]
    w, h = (
        (a[:, -1, -1] - a[:, 0, 0]) * SIDE / (SIDE - 1) for a in (x, y)
    )  # the outer samples are half a bin inside
    left, top = x[:, 0, 0] - w / SIDE / 2, y[:, 0, 0] - h / SIDE / 2
    boxes = jnp.stack([left, top, left + w, top + h], -1)
    score, points, hidden, yaw = answers(boxes)
    middle, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    relative = (points - middle[:, None]) / sides[:, None]
    nothing = jnp.zeros(len(boxes))
    return {
        "class_logits": jnp.stack([jnp.log(1 - score), jnp.log(score)], -1),
        "face_output": relative.reshape(len(boxes), -1),
        "visible_face_output": jnp.where(hidden, -9.0, 9.0),
        "head_output": jnp.stack([yaw / 45, nothing, nothing], -1),
        "gender_output": jnp.stack([yaw / 10, nothing], -1),
    }


def search(size=(HEIGHT, WIDTH), proposals=None, answer=look, attributes=DECLARED, **changes):
    options = replace(OPTIONS, detection=replace(OPTIONS.detection, **changes))
    found = Search(
        answer,
        attributes,
        FACE,
        options,
        FaceRectangle(jnp.zeros(63), jnp.asarray(RECTANGLE), jnp.zeros((63, 4))),
        jnp.asarray(IMAGE),
        jnp.asarray(size, jnp.float32),
        proposals,
    )
    return jax.tree.map(np.asarray, jax.jit(found.run)())


def fit(points, visible):
    """Fit the template to points by `lstsq`: x' = c x - s y + u, y' = s x + c y + v."""
    t, p = TEMPLATE[visible], points[visible]
    one, zero = np.ones(len(t)), np.zeros(len(t))
    rows = np.concatenate(
        [np.stack([t[:, 0], -t[:, 1], one, zero], -1), np.stack([t[:, 1], t[:, 0], zero, one], -1)]
    )
    c, s, u, v = np.linalg.lstsq(rows, np.concatenate([p[:, 0], p[:, 1]]), rcond=None)[0]
    x, y = RECTANGLE[:2]
    middle, half = np.array([c * x - s * y + u, s * x + c * y + v]), np.hypot(c, s) / 2
    box = np.concatenate([middle - half * RECTANGLE[2:], middle + half * RECTANGLE[2:]])
    return np.clip(box, 0, (WIDTH, HEIGHT) * 2)


def algorithms_1_and_2(rounds, top_k, candidates=64, threshold=0.25, overlap=0.5):
    """Run the paper's two algorithms, region by region."""

    def seen(boxes):
        score, points, hidden, yaw = answers(np.array(boxes, float), np)
        return list(zip(boxes, score, points, ~hidden, yaw, strict=True))

    windows = sliding_windows(HEIGHT, WIDTH, 16, 1.4, 0.2)
    regions = sorted((r for r in seen(list(windows)) if r[1] > threshold), key=lambda r: -r[1])
    latest = regions[:candidates]
    regions = list(latest)
    for _ in range(rounds):
        latest = seen([fit(points, visible) for _, _, points, visible, _ in latest])
        regions += [r for r in latest if r[1] > threshold]
    precise = [np.r_[p[v].min(0), p[v].max(0)] for _, _, p, v, _ in regions]
    left, faces = sorted(range(len(regions)), key=lambda i: -regions[i][1]), []
    while left:
        best = left[0]
        shared = [oracles.smaller_overlap_float32(precise[best], p) for p in precise]
        own = [i for i in left if i == best or shared[i] > overlap]
        left = [i for i in left if i not in own]
        top = [regions[i] for i in own[:top_k]]
        points = np.median([r[2] for r in top], 0)
        visible = np.median([r[3] for r in top], 0) > 0.5
        faces.append((fit(points, visible), top[0][1], points, np.median([r[4] for r in top])))
    return faces


@pytest.mark.parametrize("rounds", [0, 2])
def test_the_search_is_the_papers_two_algorithms(rounds):
    found = search(rounds=rounds)
    expected = algorithms_1_and_2(rounds, top_k=5)
    assert found.valid.sum() == len(expected) == 4  # touching faces are not merged
    places = found.attributes["face"].reshape(-1, 21, 3)
    for i, (box, score, points, yaw) in enumerate(expected):
        np.testing.assert_allclose(found.boxes[i], box, atol=0.05)
        np.testing.assert_allclose(found.scores[i], score, atol=2e-3)
        np.testing.assert_allclose(places[i, :, :2], points, atol=0.05)
        np.testing.assert_allclose(found.attributes["head"][i, 0], yaw, atol=1e-3)
    assert not found.valid[4:].any()
    assert (found.boxes[4:] == 0).all()


def errors(found):
    order = np.argsort(found.boxes[:4, 0])
    return np.abs(found.boxes[order] - np.clip(BOXES, 0, (WIDTH, HEIGHT) * 2)).max()


def test_rounds_bring_the_rectangles_to_the_faces():
    """The predictions reduce a region's error to a third, and so does each round."""
    few = [search(rounds=n, top_k=1) for n in (0, 2)]
    assert errors(few[1]) < 0.15 * errors(few[0])
    assert errors(few[1]) < 0.3


def test_with_plain_nms_each_face_is_its_best_region():
    found = search(landmark_nms=False, rounds=0)
    windows = sliding_windows(HEIGHT, WIDTH, 16, 1.4, 0.2)
    score = np.asarray(answers(windows.astype(float), np)[0])
    best = windows[score.argmax()]
    np.testing.assert_array_equal(found.boxes[0], best)
    candidates = np.isin(np.arange(len(score)), np.argsort(-score)[:64]) & (score > 0.25)
    kept = oracles.nms(windows, score.astype(np.float32), candidates, 0.3)
    assert found.valid.sum() == len(kept)


def test_no_face_is_found_outside_the_image():
    found = search(size=(HEIGHT, 64))
    assert found.valid.sum() == 2
    assert (found.boxes[..., 2] <= 64).all()


def make_proposals(boxes, slots):
    """Return boxes as proposals; the other slots are NaN."""
    padded = np.full((slots, 4), np.nan, np.float32)
    padded[: len(boxes)] = boxes
    return Proposals(padded, np.arange(slots) < len(boxes))


def test_proposals_replace_windows():
    windows = sliding_windows(HEIGHT, WIDTH, 16, 1.4, 0.2)
    same = search(proposals=make_proposals(windows, len(windows) + 130))  # with empty chunks
    jax.tree.map(np.testing.assert_array_equal, same, search())
    few = search(proposals=make_proposals(BOXES[[1, 3]], 7), landmark_nms=False, rounds=0)
    assert few.valid.sum() == 2
    np.testing.assert_array_equal(
        np.sort(few.boxes[:2], 0), np.clip(BOXES[[1, 3]], 0, (WIDTH, HEIGHT) * 2)
    )
    none = search(proposals=make_proposals(BOXES[:0], 7), landmark_nms=False, rounds=0)
    assert not none.valid.any()


def test_proposals_are_clipped_to_the_image():
    boxes = np.array([[-20, -30, 200, 90], [WIDTH + 1, 5, WIDTH + 40, 50]], np.float32)
    proposals = make_proposals(boxes, 2)
    found = search(proposals=proposals, score_threshold=0.0, landmark_nms=False, rounds=0)
    np.testing.assert_array_equal(found.boxes[found.valid], [[0, 0, WIDTH, HEIGHT]])


@pytest.mark.parametrize("size", [(5, WIDTH), (HEIGHT, 6), (7, 9)])
def test_a_narrow_image_has_the_smallest_windows(size):
    # These have a side of 16 pixels; less than half of them is inside the image.
    found = search(size, score_threshold=0.0, landmark_nms=False, rounds=0)
    boxes = found.boxes[found.valid]
    assert len(boxes)
    assert (boxes[:, 2:] - boxes[:, :2] <= 16).all()
    assert (boxes[:, 2:] <= size[::-1]).all()


def test_without_detection_the_image_is_one_face():
    found = search(enabled=False)
    assert found.valid.tolist() == [True]
    np.testing.assert_array_equal(found.boxes, [[0, 0, WIDTH, HEIGHT]])


def test_a_region_without_landmarks_merges_no_faces():
    """The region of the image's left half has no visible landmark, and the best score."""
    half = np.array([[0, 0, WIDTH / 2, HEIGHT]], np.float32)

    def answer(regions, valid):
        out = look(regions, valid)
        blind = regions[:, -1, -1, 0] - regions[:, 0, 0, 0] > 0.4 * WIDTH
        seen = jnp.where(blind[:, None], -9.0, out["visible_face_output"])
        scores = jnp.where(blind[:, None], jnp.array([-9.0, 9.0]), out["class_logits"])
        return out | {"visible_face_output": seen, "class_logits": scores}

    boxes = np.concatenate([half, BOXES]).astype(np.float32)
    found = search(proposals=make_proposals(boxes, 5), rounds=0, answer=answer)
    assert found.valid.sum() == 4
    assert errors(found) < 1


def test_pixels_outside_the_image_are_not_sampled():
    inner = (HEIGHT - 21, WIDTH - 30)
    boxes = np.array([[WIDTH - 70, HEIGHT - 61, WIDTH - 30, HEIGHT - 21]], np.float32)
    seen = []

    def answer(regions, valid):
        jax.debug.callback(lambda x: seen.append(np.asarray(x)), regions)
        return look(regions, valid)

    search(inner, proposals=make_proposals(boxes, 1), rounds=0, answer=answer)
    (region,) = (x[0] for x in seen)
    # The last pixels that are sampled are the image's last.
    assert region[-1, -1, 0] <= inner[1] - 0.5
    assert region[-1, -1, 1] <= inner[0] - 0.5


def test_probabilities_of_medians_sum_to_1():
    def answer(regions, valid):
        x, y = regions[:, 0, 0, 0], regions[:, 0, 0, 1]
        logits = jnp.stack([jnp.sin(x), jnp.sin(y), jnp.sin(x + y)], -1)
        return {**look(regions, valid), "race_output": 9 * logits}

    race = Categorical("race", classes=("a", "b", "c"))
    found = search(answer=answer, attributes=(*DECLARED, race), rounds=0, top_k=5)
    assert found.valid.any()
    sums = found.attributes["race"][found.valid].sum(-1)
    np.testing.assert_allclose(sums, 1, atol=1e-5)


@pytest.mark.parametrize("name", ["max_proposals", "max_candidates", "top_k", "chunk"])
def test_a_count_of_0_is_refused(name):
    with refused(name, 1, error=ValueError):
        replace(OPTIONS, detection=replace(OPTIONS.detection, **{name: 0}))
