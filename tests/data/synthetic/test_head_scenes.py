import numpy as np
import pytest
from annotated import labels_of
from mistakes import refused

from mtl_jax.attributes.declarations import from_config
from mtl_jax.attributes.vocabulary import LANDMARK_FLIP, LANDMARKS
from mtl_jax.data.synthetic.hair import random_hair
from mtl_jax.data.synthetic.head_scenes import ATTRIBUTES, SyntheticSource
from mtl_jax.data.synthetic.heads import build_parts, draw_head
from mtl_jax.data.synthetic.looks import random_look
from mtl_jax.data.synthetic.surfaces import Surface, rotation
from mtl_jax.images.geometry import Geometry

cv2 = pytest.importorskip("cv2")
AT = {name: i for i, name in enumerate(LANDMARKS)}
DECLARED = from_config(ATTRIBUTES)


@pytest.fixture(scope="module")
def records():
    source = SyntheticSource(120, 11, attributes=DECLARED)
    return [source[i] for i in range(120)]


def _instances(records):
    return [instance for record in records for instance in record.instances]


def _labels(instance):
    return labels_of(instance, DECLARED)


def _head(pose, seed=0, height=100.0):
    rng = np.random.default_rng(seed)
    look = random_look(30.0, "male", "none", rng)
    return draw_head(look, random_hair(look, rng, 0), pose, height, rng)


def _equal(a, b):
    return np.array_equal(a.image, b.image) and all(
        m.box == n.box
        and _labels(m) == _labels(n)
        and np.array_equal(m.segmentation, n.segmentation)
        for m, n in zip(a.instances, b.instances, strict=True)
    )


def test_an_image_depends_only_on_seed_and_position(records):
    again = SyntheticSource(500, 11, attributes=DECLARED)
    for i in (17, 3):
        assert _equal(records[i], again[i])


@pytest.mark.parametrize("change", [{"seed": 12}, {"texture_seed": 1}, {"size": (192, 256)}])
def test_other_arguments_give_other_images(records, change):
    other = SyntheticSource(**({"length": 120, "seed": 11} | change))
    assert not np.array_equal(other[3].image, records[3].image)


def test_other_textures_leave_the_heads_where_they_are(records):
    other = SyntheticSource(120, 11, texture_seed=5, attributes=DECLARED)[3]
    labels = [_labels(n)["head"] for n in other.instances]
    assert labels == [_labels(n)["head"] for n in records[3].instances]


def test_boxes_are_the_tight_boxes_of_disjoint_masks(records):
    for record in records:
        total = np.zeros((record.height, record.width), int)
        for instance in record.instances:
            rows, columns = np.nonzero(instance.segmentation)
            assert instance.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert instance.area == len(rows)
            total += instance.segmentation
        assert total.max() <= 1
    assert len({n.id for n in _instances(records)}) == len(_instances(records))


def test_face_boxes_reach_from_forehead_to_chin_and_ear_to_ear(records):
    source = SyntheticSource(120, 11, boxes="face", attributes=DECLARED)
    compared = 0
    for i, record in enumerate(records):
        faces = {face.id: face for face in source[i].instances}
        for head in record.instances:
            x, y = np.array([point[:2] for point in _labels(head)["face"]]).T
            top = y.min() - 0.25 * (y.max() - y.min())
            box = np.clip([x.min(), top, x.max(), y.max()], 0, 256)
            if (box[2:] > box[:2]).all():
                face = faces.pop(head.id)
                np.testing.assert_allclose(face.box, box, atol=2e-3)
                assert _labels(face) == _labels(head)
                compared += 1
        assert not faces
    assert compared > 200


def test_every_head_is_visible_enough():
    source = SyntheticSource(40, 3, heads=(4, 8), min_visible=0.25)
    areas = [n.area for n in _instances(source)]
    heights = [n.box[3] - n.box[1] for n in _instances(source)]
    assert len(areas) > 100
    assert min(areas) > 0.25 * 0.4 * 25**2  # a quarter of the smallest head's area
    assert min(heights) >= 5


def test_counts_stay_within_their_bounds(records):
    counts = [len(record.instances) for record in records]
    assert set(counts) == {1, 2, 3, 4, 5}
    assert not SyntheticSource(1, 0, heads=(0, 0))[0].instances


def test_sizes_spread_over_one_to_six(records):
    heights = np.array([n.box[3] - n.box[1] for n in _instances(records)])
    assert heights.max() > 6 * heights.min()
    assert np.quantile(heights, 0.95) > 3.5 * np.quantile(heights, 0.05)
    assert np.mean(heights >= 40) > 0.7


def test_all_labels_parse(records):
    assert {attribute.kind for attribute in DECLARED} == {
        "continuous",
        "categorical",
        "ordinal",
        "pose",
        "landmarks",
    }
    for instance in _instances(records):
        for _, known in instance.attributes.values():
            assert known.all()
        assert instance.attributes.keys() | {"smile"} == ATTRIBUTES.keys()


def test_a_smile_is_labelled_if_a_part_of_the_mouth_is_visible(records):
    mouth = [i for i, name in enumerate(LANDMARKS) if name.startswith("mouth_")]
    labelled = []
    for instance in _instances(records):
        shows = any(_labels(instance)["face"][i][2] == 2 for i in mouth)
        assert ("smile" in instance.attributes) == shows
        labelled.append(shows)
    assert 0.8 < np.mean(labelled) < 1


def test_missing_labels_change_no_pixel():
    whole, part = (SyntheticSource(40, 2, missing=m, attributes=DECLARED) for m in (0.0, 0.4))
    kept = []
    for a, b in zip(whole, part, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
        for m, n in zip(a.instances, b.instances, strict=True):
            assert _labels(n).items() <= _labels(m).items()
            kept.append(len(n.attributes) / len(m.attributes))
    assert np.mean(kept) == pytest.approx(0.6, abs=0.08)


@pytest.mark.parametrize(("yaw", "direction"), [(40, -1), (-40, 1)])
def test_yaw_moves_the_nose_to_the_left_of_the_eyes(yaw, direction):
    points = _head((yaw, 0, 0)).points
    middle = (points[AT["left_eye_center"]] + points[AT["right_eye_center"]]) / 2
    assert direction * (points[AT["nose_center"]] - middle)[0] > 5


def test_pitch_moves_the_nose_up_towards_the_eyes():
    def gap(pitch):
        points = _head((0, pitch, 0)).points
        return points[AT["nose_center"], 1] - points[AT["left_eye_center"], 1]

    assert gap(35) < gap(0) - 5
    assert gap(0) < gap(-35)


def test_roll_turns_the_eyes_clockwise():
    points = _head((0, 0, 20)).points
    x, y = points[AT["right_eye_center"]] - points[AT["left_eye_center"]]
    assert np.degrees(np.arctan2(y, x)) == pytest.approx(20, abs=1e-3)


def test_landmarks_lie_in_the_order_of_their_names():
    x, y = _head((0, 0, 0)).points.T
    for left, right in LANDMARK_FLIP:
        assert x[AT[left]] + x[AT[right]] == pytest.approx(2 * x[AT["nose_center"]], abs=1e-6)
    across = ["left_ear", "left_eye_left", "left_eye_center", "left_eye_right", "right_eye_left"]
    across += ["right_eye_center", "right_eye_right", "right_ear"]
    assert sorted(across, key=lambda name: x[AT[name]]) == across
    assert x[AT["mouth_left"]] < x[AT["nose_left"]] < x[AT["nose_right"]] < x[AT["mouth_right"]]
    down = ["left_brow_center", "left_eye_center", "nose_center", "mouth_center", "chin"]
    assert sorted(down, key=lambda name: y[AT[name]]) == down


def test_a_mirrored_head_has_mirrored_labels():
    """Negating yaw and roll has the effect of `Attribute.move` for a mirrored image."""
    pose, head = from_config({"head": ATTRIBUTES["head"], "face": ATTRIBUTES["face"]})
    angles = (35.0, -20.0, 15.0)
    left, right = _head(angles), _head((-35.0, -20.0, -15.0))
    mirror = Geometry(scale_x=-1.0, shift_x=float(left.mask.shape[1]))

    moved, _ = pose.move(*pose.parse(angles), mirror)
    np.testing.assert_allclose(moved, (-35, -20, -15))
    rows = [(x, y, 2 if v else 1) for (x, y), v in zip(left.points, left.visible, strict=True)]
    moved, _ = head.move(*head.parse(rows), mirror)
    np.testing.assert_allclose(moved.reshape(21, 3)[:, :2], right.points, atol=1e-3)


@pytest.mark.parametrize(("yaw", "hidden", "seen"), [(60, "right", "left"), (-60, "left", "right")])
def test_a_turned_head_hides_its_far_side(yaw, hidden, seen):
    """With the nose to the left, the visible ear is the one on the image's right."""
    visible = np.mean([_head((yaw, 0, 0), seed).visible for seed in range(12)], 0)
    assert visible[AT[f"{seen}_ear"]] == 0
    assert visible[AT[f"{hidden}_ear"]] >= 0.15  # unless hair covers it
    near = [i for name, i in AT.items() if name.startswith(f"{hidden}_eye")]
    assert visible[near].mean() > 0.9


def test_a_frontal_head_hides_nothing_but_ears():
    visible = np.mean([_head((0, 0, 0), seed).visible for seed in range(10)], 0)
    face = [i for name, i in AT.items() if not name.endswith("ear")]
    assert visible[face].min() > 0.6  # a fringe may hang over a brow


def test_visible_landmarks_lie_on_their_head(records):
    """Landmarks on the outline, such as the chin, may be a pixel outside."""
    for record in records:
        for instance in record.instances:
            near = cv2.dilate(instance.segmentation.astype(np.uint8), np.ones((5, 5)))
            for x, y, v in _labels(instance)["face"]:
                inside = 0 <= x < record.width and 0 <= y < record.height
                assert v == 1 or (inside and near[int(y), int(x)])


def test_visible_share_is_moderate(records):
    shown = [v == 2 for n in _instances(records) for _, _, v in _labels(n)["face"]]
    assert 0.5 < np.mean(shown) < 0.9


@pytest.mark.parametrize("pose", [(0, 0, 0), (50, 30, 10), (-70, -40, -25)])
def test_lines_of_sight_meet_the_surface(pose):
    """Compare with the first point found by a dense search along each line."""
    surface, turn = Surface(0.74, 0.86, lower=(0.5, 0.2, 0.3), slant=-0.12), rotation(*pose)
    x, y = np.meshgrid(
        np.linspace(-1, 1, 21, dtype=np.float32), np.linspace(-1, 1, 21, dtype=np.float32)
    )
    hits = surface.cast(x, y, turn)
    depth = np.linspace(2, -2, 801)
    lines = x[..., None, None] * turn[0] + y[..., None, None] * turn[1] + depth[:, None] * turn[2]
    px, py, pz = lines[..., 0] / 0.74, lines[..., 1], (lines[..., 2] + 0.12 * lines[..., 1]) / 0.86
    weights = np.where((py > 0)[..., None], (0.8, 0.2, 0.0), (0.5, 0.2, 0.3))
    within = px**2 + pz**2 < 1 - (weights * np.stack([py**2, py**4, py**8], -1)).sum(-1)
    met = within.any(-1)
    clear = np.abs(hits.inside) > 0.02
    np.testing.assert_array_equal(met[clear], (hits.inside > 0)[clear])
    np.testing.assert_allclose(
        hits.depth[met & clear], depth[within.argmax(-1)][met & clear], atol=0.02
    )
    np.testing.assert_allclose((hits.front @ turn.T)[..., :2], np.stack([x, y], -1), atol=1e-5)


def test_parts_follow_age_and_gender_with_errors_of_their_own():
    def looks(age, gender):
        return [random_look(age, gender, "none", np.random.default_rng(i)) for i in range(60)]

    baby, adult = looks(2.0, "male"), looks(40.0, "male")
    for field in ("eye_width", "eye_y", "nose_length"):
        a, b = (np.array([getattr(look, field) for look in group]) for group in (baby, adult))
        assert abs(a.mean() - b.mean()) > a.std()
    men, women = looks(30.0, "male"), looks(30.0, "female")
    assert (
        np.mean([m.skull.lower[2] > w.skull.lower[2] for m, w in zip(men, women, strict=True)])
        > 0.6
    )
    assert abs(np.mean([m.skin for m in men]) - np.mean([w.skin for w in women])) < 15
    assert build_parts(men[0]).points.shape == (21, 3)


def test_a_wrong_position_or_argument_is_refused():
    source = SyntheticSource(2, 0, size=(64, 64))
    assert len(list(source)) == len(source) == 2
    assert source.group(1) == "1"
    with refused(2, error=IndexError):
        source[2]
    with refused("missing", error=ValueError):
        SyntheticSource(2, 0, missing=2.0)
    with refused("heads", error=ValueError):
        SyntheticSource(2, 0, heads=(3, 1))
    with refused("boxes", "body", "head", "face", error=ValueError):
        SyntheticSource(2, 0, boxes="body")


def _thumbnails(source):
    pixels, ages, female = [], [], []
    for record in source:
        for instance in record.instances:
            x1, y1, x2, y2 = map(int, instance.box)
            thumbnail = cv2.resize(record.image[y1:y2, x1:x2], (8, 8), interpolation=cv2.INTER_AREA)
            pixels.append(thumbnail.reshape(-1) / 255)
            ages.append(_labels(instance)["age"])
            female.append(_labels(instance)["gender"] == "female")
    return np.array(pixels), np.array(ages), np.array(female, float)


def _ridge(train, target, test):
    """Yield the predictions for several strengths; the best on the test set is an upper bound."""
    center, mean = train.mean(0), target.mean()
    gram, right = (train - center).T @ (train - center), (train - center).T @ (target - mean)
    for strength in (0.1, 1.0, 10.0, 100.0):
        yield (test - center) @ np.linalg.solve(gram + strength * np.eye(len(gram)), right) + mean


@pytest.mark.slow
def test_a_thumbnail_is_not_sufficient_for_age_or_gender():
    train, age, female = _thumbnails(SyntheticSource(800, 1, attributes=DECLARED))
    test, test_age, test_female = _thumbnails(SyntheticSource(400, 2, attributes=DECLARED))
    trivial = np.abs(test_age - np.median(age)).mean()
    error = min(np.abs(found - test_age).mean() for found in _ridge(train, age, test))
    assert error >= 0.8 * trivial
    trivial = np.mean(test_female != (female.mean() > 0.5))
    error = min(np.mean((found > 0.5) != test_female) for found in _ridge(train, female, test))
    assert error >= 0.8 * trivial
