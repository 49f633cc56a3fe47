"""Masks on faces: where they lie, what they leave alone, in which light; and sources that wear
them.
"""

import json
import shutil

import cv2
import numpy as np
import pytest
import scipy.io
from annotated import open_format
from faces import ibug
from real_data import data_set

from mtl_jax.data import face_masks
from mtl_jax.data.__main__ import main
from mtl_jax.data.face_mask_fit import Fit, Frame, chip_frame, frame_of, grid_of
from mtl_jax.data.face_mask_folder import write_masked
from mtl_jax.data.face_mask_textures import BANK, KINDS, texture
from mtl_jax.data.face_masks import Wearing, _inverse_bilinear, _straps, draw_wearing, put_on
from mtl_jax.data.face_points import from_ibug
from mtl_jax.data.masked_faces import BARE, MaskedFaces, mask_faces
from mtl_jax.data.options import AugmentOptions, DataOptions
from mtl_jax.data.records import Category, Instance, Record
from mtl_jax.data.sources import SourceOptions, open_sources
from mtl_jax.data.transforms import load
from mtl_jax.errors import UserError
from mtl_jax.images import ResizeOptions

LUMA = np.array((0.299, 0.587, 0.114))


def overlap(a, b):
    return (a & b).sum() / (a | b).sum()


def wearing(kind="surgical", seed=0, **fit):
    found = draw_wearing(np.random.default_rng(seed))
    return found._replace(kind=kind, fit=Fit()._replace(**fit))


def gray(side=120, level=150):
    return np.full((side, side, 3), level, np.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_covers_nose_and_mouth_and_leaves_the_eyes(kind):
    points = ibug(center=(100.0, 90.0), width=110.0)
    frame = frame_of(points)
    outline = put_on(gray(200), frame, wearing(kind)).outline
    x, y = np.rint([frame.tip, frame.mouth]).astype(int).T
    assert outline[y, x].all()
    eyes = np.rint(points[36:48]).astype(int)
    assert not outline[eyes[:, 1], eyes[:, 0]].any()


@pytest.mark.parametrize("kind", KINDS)
def test_worn_below_the_nose_it_leaves_the_nose(kind):
    frame = chip_frame(160, 160)
    outline = put_on(gray(160), frame, wearing(kind, below_nose=True)).outline
    (nose_x, nose_y), (x, y) = np.rint([frame.tip, frame.mouth]).astype(int)
    assert not outline[nose_y, nose_x]
    assert outline[y + 2, x]


def test_pixels_away_from_the_mask_stay_to_the_bit():
    image = np.random.default_rng(0).integers(0, 256, (160, 160, 3), np.uint8)
    before = image.copy()
    done = put_on(image, chip_frame(160, 160), wearing("kn95"))
    np.testing.assert_array_equal(image, before)
    changed = (done.image != image).any(-1)
    frame = chip_frame(160, 160)
    assert changed[done.outline].mean() > 0.98
    assert not changed[: int(frame.bridge[1]) - 8].any()


def test_edges_are_soft(monkeypatch):
    def between():
        done = put_on(gray(200), chip_frame(200, 200), wearing("surgical"))
        changed = np.abs(done.image.astype(float) - 150).max(-1)
        disc = np.ones((5, 5), np.uint8)
        inside = done.outline.astype(np.uint8)
        edge = (cv2.dilate(inside, disc) - cv2.erode(inside, disc)) > 0
        whole = np.median(changed[cv2.erode(inside, disc) > 0])
        return ((changed > 0.3 * whole) & (changed < 0.7 * whole))[edge].mean()

    soft = between()
    monkeypatch.setattr(face_masks, "_soft", lambda alpha, *_: alpha)
    assert soft > 2 * between()
    assert soft > 0.1


def test_inverse_bilinear_undoes_the_forward_map():
    rng = np.random.default_rng(1)
    square = np.array([[0, 0], [40, 0], [40, 40], [0, 40]], float)
    a, b, c, d = square + rng.uniform(-12, 12, (4, 2))
    u, v = rng.uniform(0, 1, (2, 50))
    across = np.outer(1 - u, a) + np.outer(u, b), np.outer(1 - u, d) + np.outer(u, c)
    points = (1 - v)[:, None] * across[0] + v[:, None] * across[1]
    panel = np.concatenate([a, b - a, d - a, a - b + c - d])[:, None].repeat(50, 1)
    found = _inverse_bilinear(panel, *points.T)
    np.testing.assert_allclose(found, (u, v), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_face_from_the_front_has_a_symmetric_mask(kind):
    moved = np.array([0.6, 0.0])  # to the middle, x = 100
    frame = Frame(*(part + moved for part in chip_frame(200, 200)))
    outline = put_on(gray(200), frame, wearing(kind)).outline
    assert overlap(outline, outline[:, ::-1]) > 0.98


def test_the_mask_turns_with_the_picture():
    points = ibug(center=(100.0, 95.0), width=100.0)
    image = np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)
    plain = put_on(image, frame_of(points), wearing("cloth")).outline
    turned = np.stack([200 - points[:, 1], points[:, 0]], -1)  # by 90 degrees, clockwise
    found = put_on(np.rot90(image, -1).copy(), frame_of(turned), wearing("cloth")).outline
    assert overlap(np.rot90(found), plain) > 0.95


def test_twentyone_points_give_nearly_the_mask_of_sixtyeight():
    points = ibug(center=(100.0, 95.0), width=100.0)
    few = [(np.nan, np.nan) if p is None else p[:2] for p in from_ibug(points)]
    masks = [put_on(gray(200), frame_of(p), wearing()).outline for p in (points, np.array(few))]
    assert overlap(*masks) > 0.7


def test_points_that_are_no_face_are_refused():
    with pytest.raises(ValueError, match="5 points; a mask is fitted to 68"):
        frame_of(np.zeros((5, 2)))
    broken = ibug()
    broken[8] = np.nan
    with pytest.raises(ValueError, match="are missing"):
        frame_of(broken)


def test_a_larger_and_a_looser_mask_reach_farther():
    frame = chip_frame(200, 200)

    def width(**fit):
        grid = grid_of(frame, Fit()._replace(**fit))
        return grid[1, 4, 0] - grid[1, 0, 0]

    assert width(size=1.1) == pytest.approx(1.1 * width(), rel=1e-6)
    assert width(tightness=0.0) == pytest.approx(width() + 2 * 0.06 * frame.width, rel=1e-2)


def test_a_mask_has_the_light_of_its_picture():
    frame = chip_frame(160, 160)

    def brightness(image):
        done = put_on(image, frame, wearing("kn95"))
        half = np.arange(160) < 80
        inside = done.outline & cv2.erode(done.outline.astype(np.uint8), np.ones((9, 9))).astype(
            bool
        )
        return [done.image[inside & side].mean() for side in (half, ~half)]

    dark, bright = brightness(gray(160, 50)), brightness(gray(160, 160))
    assert np.mean(dark) < 0.7 * np.mean(bright)
    ramp = np.linspace(60, 220, 160, dtype=np.uint8)[None, :, None].repeat(160, 0).repeat(3, 2)
    left, right = brightness(ramp)
    even = brightness(gray(160, 140))
    assert left / even[0] < 0.9
    assert right / even[1] > 1.05


def test_gray_pictures_stay_gray():
    image = np.random.default_rng(0).integers(60, 200, (96, 96, 1), np.uint8)
    done = put_on(image, chip_frame(96, 96), wearing("cloth"))
    assert done.image.shape == image.shape
    color = put_on(image.repeat(3, 2), chip_frame(96, 96), wearing("cloth")).image
    luma = color @ np.array([0.299, 0.587, 0.114])
    assert np.abs(done.image[..., 0] - luma).max() < 3


def test_a_bank_holds_different_masks_and_gives_the_same_again():
    for kind in KINDS:
        assert len({texture(kind, n).color.tobytes() for n in range(6)}) == 6
        again = texture.__wrapped__(kind, 3)
        np.testing.assert_array_equal(again.color, texture(kind, 3).color)
    drawn = [draw_wearing(np.random.default_rng(i)) for i in range(300)]
    counts = [sum(w.kind == kind for w in drawn) for kind in KINDS]
    assert min(counts) > 30
    assert 20 < sum(w.fit.below_nose for w in drawn) < 80
    assert all(0 <= w.number < BANK for w in drawn)


@pytest.mark.parametrize("yaw", [-90, -60, -30, 0, 30, 60, 90])
def test_a_turned_head_wears_its_mask_on_the_side_of_its_nose(yaw):
    # A sphere-like head: points on it turned about the upright axis.
    front = ibug(center=(0.0, 0.0), width=1.0)
    depth = 0.55 * np.sqrt(np.clip(1 - (front[:, 0] / 0.52) ** 2, 0, None))
    depth[27:36] += 0.12
    turn = np.radians(-yaw)
    x = front[:, 0] * np.cos(turn) + depth * np.sin(turn)
    points = np.stack([100 + 100 * x, 95 + 100 * front[:, 1]], -1)
    outline = put_on(gray(200), frame_of(points), wearing("n95")).outline
    assert outline.sum() > 800
    middle = np.nonzero(outline)[1].mean() - 100
    if yaw:
        assert np.sign(middle) == -np.sign(yaw)  # yaw > 0: the nose points to the image's left
    else:
        assert abs(middle) < 3


class Chips:
    """Gray chips that fill their pictures."""

    categories = (Category(1, "face"),)

    def __init__(self, count=40, box=(0.0, 0.0, 64.0, 64.0), attributes=None):
        self._count, self._box, self._attributes = count, box, attributes or {}

    def __len__(self):
        return self._count

    def __getitem__(self, position):
        face = Instance(self._box, 1, attributes={"age": 30, **self._attributes})
        return Record(gray(64), 64, 64, position, f"{position}.png", (face,))

    def group(self, position):
        return f"g{position // 2}"


def test_a_source_puts_masks_on_a_share_of_its_faces_always_the_same():
    chips = Chips()
    masked = MaskedFaces(chips, 0.5, seed=3)
    records = [masked[i] for i in range(len(masked))]
    kinds = [r.instances[0].attributes["face_mask"] for r in records]
    for record, kind in zip(records, kinds, strict=True):
        assert record.instances[0].attributes["masked"] == ("no" if kind == "none" else "yes")
        assert (record.image != 150).any() == (kind != "none")
        assert record.instances[0].attributes["age"] == 30
    assert 10 <= sum(kind != "none" for kind in kinds) <= 30
    assert set(kinds) <= {BARE, *KINDS}
    np.testing.assert_array_equal(masked[5].image, records[5].image)
    other = MaskedFaces(chips, 0.5, seed=4)
    assert [other[i].instances[0].attributes["face_mask"] for i in range(40)] != kinds
    assert [masked.group(i) for i in range(4)] == ["g0", "g0", "g1", "g1"]
    with pytest.raises(ValueError, match=r"masks 1\.5 must be a probability"):
        MaskedFaces(chips, 1.5)


def test_a_face_that_cannot_be_found_stays_bare():
    part = Chips(box=(0.0, 0.0, 30.0, 30.0))
    unknown = Chips(attributes={"face": [None] * 21})
    for source in (part, unknown):
        record = mask_faces(source[0], 1.0, np.random.default_rng(0))
        assert record.instances[0].attributes["face_mask"] == "none"
        assert record.instances[0].attributes["masked"] == "no"
        np.testing.assert_array_equal(record.image, 150)


def test_training_puts_on_another_mask_each_time_and_evaluation_none():
    resize = ResizeOptions("square", 64, 64, ((64, 64),))
    augment = AugmentOptions(flip=0.0, mask=1.0)
    options = DataOptions(resize=resize, augment=augment, max_instances=1, mask_size=1)
    rows = [load(Chips()[0], 0, (), options, np.random.default_rng(i)).images for i in range(3)]
    assert all((row != 150).any() for row in rows)
    assert not np.array_equal(rows[0], rows[1])
    np.testing.assert_array_equal(load(Chips()[0], 0, (), options).images, 150)


def test_a_block_of_a_config_puts_masks_on():
    def first(**block):
        block = dict(format="synthetic", length=2, size=(96, 96), heads=(1, 1), **block)
        opened = open_sources(SourceOptions(sources=({**block, "split": "test"},)), ())
        return opened["test"].sources[0][0]

    bare, masked = first(), first(masks=1.0, mask_seed=2)
    assert (bare.image != masked.image).any()
    assert masked.instances[0].attributes["face_mask"] in KINDS
    # Landmarks below it are hidden now; others, and places, are as they were.
    before, after = (r.instances[0].attributes["face"] for r in (bare, masked))
    hidden = [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
    assert len(hidden) >= 3
    assert all((*before[i][:2], before[i][2], after[i][2]) == (*after[i][:2], 2, 1) for i in hidden)
    changed = (bare.image != masked.image).any(-1)
    assert all(changed[int(after[i][1]), int(after[i][0])] for i in hidden)
    elsewhere = first(masks=1.0, mask_splits=("train",))
    np.testing.assert_array_equal(elsewhere.image, bare.image)
    again = mask_faces(masked, 1.0, np.random.default_rng(0))
    np.testing.assert_array_equal(again.image, masked.image)  # it wears one
    assert again.instances[0].attributes == masked.instances[0].attributes
    with pytest.raises(UserError, match="masks of a synthetic source is not within 0 and 1"):
        first(masks=2.0)


def test_a_folder_is_written_again_with_masks(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for name in ("a.png", "deep/b.png", "c.jpg"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "in" / name), rng.integers(90, 200, (80, 80, 3), np.uint8))
    (tmp_path / "in/broken.jpg").write_bytes(b"no picture")
    points = "\n".join(f"{x} {y}" for x, y in ibug((40.0, 40.0), 50.0))
    (tmp_path / "in/a.pts").write_text(points)
    folders = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    assert main(["mask-faces", *folders, "--seed", "4"]) == 1
    assert "broken.jpg: not a picture" in capsys.readouterr().err
    worn = json.loads((tmp_path / "out/masks.json").read_text())
    assert set(worn) == {"a.png", "deep/b.png", "c.jpg"}
    for name in worn:
        outline = cv2.imread(str(tmp_path / "out/outlines" / name.replace("jpg", "png")), 0)
        assert set(np.unique(outline)) == {0, 255}
        (face,) = worn[name]
        assert face["kind"] in KINDS
    assert cv2.imread(str(tmp_path / "out/sheet.png")).shape == (128, 1024, 3)
    with pytest.raises(UserError, match="is not empty; use another --output"):
        main(["mask-faces", *folders])
    shutil.copytree(tmp_path / "out", tmp_path / "first")
    shutil.rmtree(tmp_path / "out")
    main(["mask-faces", *folders, "--seed", "4"])
    for name in ("images/a.png", "images/deep/b.png", "masks.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "first" / name).read_bytes()


def test_faces_out_of_reach_and_broken_points_are_named(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("far", "out", "mat", "good"):
        cv2.imwrite(str(tmp_path / f"in/{name}.png"), np.full((60, 60, 3), 120, np.uint8))
    places = {"far": (900.0, 40.0, 40.0), "out": (-12.0, 30.0, 4.0), "good": (30.0, 30.0, 40.0)}
    for name, (x, y, width) in places.items():
        points = ibug((x, y), width).T
        scipy.io.savemat(tmp_path / f"in/{name}.mat", {"pt2d": points})
    (tmp_path / "in/mat.mat").touch()
    written = write_masked(tmp_path / "in", tmp_path / "out")
    assert written.pictures == 2
    said = sorted(fault.split(": ", 1)[1] for fault in written.faults)
    assert said[0].startswith("its mat.mat is cut off or no .mat")
    assert "lies far outside the picture of 60 x 60" in said[1]
    worn = json.loads((tmp_path / "out/masks.json").read_text())
    assert set(worn) == {"out.png", "good.png"}


def test_a_picture_that_is_no_chip_wears_no_mask(tmp_path):
    (tmp_path / "in").mkdir()
    for name, height, width in (
        ("chip", 60, 60),
        ("also", 60, 60),
        ("dot", 8, 8),
        ("photo", 60, 90),
    ):
        cv2.imwrite(str(tmp_path / f"in/{name}.png"), np.full((height, width, 3), 120, np.uint8))
    written = write_masked(tmp_path / "in", tmp_path / "out")
    assert written.pictures == 2
    assert "dot.png: is 8 x 8; on less than 16 there is no face" in written.faults[0]
    assert "photo.png: is 90 x 60 and no aligned chip" in written.faults[1]
    for more in range(3):  # then a square picture is one by chance
        cv2.imwrite(str(tmp_path / f"in/{more}.png"), np.full((60, 50, 3), 120, np.uint8))
    with pytest.raises(UserError, match=r"none of its 7 pictures can be used; .*0\.png: is 50 "):
        write_masked(tmp_path / "in", tmp_path / "again")


def test_no_folder_of_masked_faces_joins_the_bare_ones(tmp_path):
    cv2.imwrite(str(tmp_path / "chip.png"), np.full((60, 60, 3), 120, np.uint8))
    with pytest.raises(UserError, match="lies in --input, whose pictures it would join"):
        write_masked(tmp_path, tmp_path / "masked")


def test_a_picture_without_colours_gets_none():
    color = np.random.default_rng(0).integers(60, 200, (120, 120, 1), np.uint8).repeat(3, 2)
    frame = frame_of(ibug((60.0, 60.0), 60.0))
    for number in range(12):
        found = put_on(color, frame, Wearing("cloth", number, Fit())).image
        assert found.shape == color.shape
        assert np.ptp(found.astype(int), axis=2).max() <= 1
        assert (found != color).any()


def test_a_photograph_of_one_tint_keeps_to_it():
    """Along every colour of the mask a channel is the sepia's share of the brightness."""
    light = np.random.default_rng(0).integers(60, 200, (120, 120, 1)).repeat(3, 2)
    sepia = np.array((1.15, 1.0, 0.8))
    picture = (light * sepia).astype(np.uint8)
    frame = frame_of(ibug((60.0, 60.0), 60.0))
    for number in range(12):
        done = put_on(picture, frame, Wearing("cloth", number, Fit()))
        worn = done.image[done.outline].astype(float)
        worn = worn[(worn.max(1) < 250)]
        np.testing.assert_allclose(worn, worn @ LUMA[:, None] * sepia / (LUMA @ sepia), atol=3)


def test_from_the_front_a_mask_has_one_strap_on_each_side():
    front, size = chip_frame(200, 200), (200, 200)
    grid = grid_of(front, Fit())
    straps = _straps(grid, front.jaws, front.width, size)
    for column, jaw in ((0, 0), (4, 1)):
        x, y = np.rint((grid[0, column] + front.jaws[jaw, 0]) / 2).astype(int)
        assert 1 <= (straps[y, x - 15 : x + 16] > 127).sum() <= 4


def test_in_profile_the_hidden_ear_has_no_strap():
    points = ibug((60.0, 60.0), 60.0)
    points[:, 0] = 60 + 0.5 * (points[:, 0] - 60)
    points[27:36, 0] += 24  # a nose beyond both jaws
    points[48:, 0] += 12
    frame = frame_of(points)
    straps = _straps(grid_of(frame, Fit()), frame.jaws, frame.width, (120, 120))
    ends = [straps[y - 4 : y + 5, x - 4 : x + 5].any() for x, y in frame.jaws[:, 0].astype(int)]
    assert ends == [True, False]


def test_each_point_of_a_file_is_looked_at_and_named_by_its_number(tmp_path):
    (tmp_path / "in").mkdir()
    for bad in (3, 20, 30):  # of the jaw, a brow, the nose
        cv2.imwrite(str(tmp_path / f"in/{bad}.png"), np.full((60, 60, 3), 120, np.uint8))
        points = ibug((30.0, 30.0), 40.0)
        points[bad] = (99999.0, 20.0)
        scipy.io.savemat(tmp_path / f"in/{bad}.mat", {"pt2d": points.T})
    with pytest.raises(UserError, match=r"20\.png: point 20 \(99999, 20\) lies far outside"):
        write_masked(tmp_path / "in", tmp_path / "out")


def test_what_lies_beside_a_picture_goes_along(tmp_path):
    folder = tmp_path / "in"
    (folder / "val").mkdir(parents=True)
    for name in ("val/1.jpg", "val/2.jpg"):
        cv2.imwrite(str(folder / name), np.full((80, 80, 3), 150, np.uint8))
    points = "\n".join(f"{x} {y}" for x, y in ibug((40.0, 40.0), 50.0))
    (folder / "val/1.pts").write_text(points)
    rows = ["file,age,gender,race,service_test", "val/1.jpg,20-29,Male,White,True"]
    (folder / "fairface_labels.csv").write_text("\n".join([*rows, "val/9.jpg,3-9,Male,White,True"]))
    assert write_masked(folder, tmp_path / "out").pictures == 2
    assert (tmp_path / "out/images/val/1.pts").read_text() == points
    source = open_format("fairface", tmp_path / "out/images")
    assert [source[i].file_name for i in range(len(source))] == ["val/1.png"]
    found = open_format("masks", tmp_path / "out", images="images", annotations="outlines")
    assert [len(found[i].instances) for i in range(2)] == [1, 1]


def predicted(name, points, score=0.9, kind="face"):
    return {"file_name": name, "score": score, "attributes": {"age": {"value": 3.0}, kind: points}}


def test_faces_that_a_model_found_are_masked(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for name in ("two.png", "none.png", "unsure.png"):
        cv2.imwrite(str(tmp_path / "in" / name), rng.integers(90, 200, (80, 200, 3), np.uint8))
    left, right = (ibug(center, 40.0) for center in ((40.0, 40.0), (150.0, 40.0)))
    rows = [[*point, 0.9] for point in left.tolist()]
    off = [[x, y + 300.0, v] for x, y, v in rows]  # nowhere on the picture
    # Ears, which iBUG does not have, are out of sight here, and so anywhere.
    few = [[-500.0, -500.0, 0.2] if p is None else [*p[:2], 0.9] for p in from_ibug(right)]
    found = [
        predicted("two.png", {"points": rows}),
        predicted("two.png", {"points": few}),
        predicted("two.png", {"points": off}),
        predicted("unsure.png", {"points": rows}, score=0.89),
        predicted("film.mp4", {"points": rows}),
    ]
    (tmp_path / "found.json").write_text(json.dumps(found))
    written = write_masked(tmp_path / "in", tmp_path / "out", faces=tmp_path / "found.json")
    assert written.pictures == 1
    assert [fault.split(": ")[1] for fault in written.faults] == [
        f"{tmp_path / 'found.json'} has no face on it of score 0.9 or more"
    ] * 2
    worn = json.loads((tmp_path / "out/masks.json").read_text())
    assert [face["kind"] in KINDS for face in worn["two.png"]] == [True, True]
    outline = cv2.imread(str(tmp_path / "out/outlines/two.png"), 0) > 0
    for points in (left, right):
        x, y = points[[62, 66]].mean(0).astype(int)  # the mouth
        assert outline[y + 3, x]
    assert not outline[:, 90:105].any()
    sheet = cv2.imread(str(tmp_path / "out/sheet.png"))
    assert [sheet[:, x : x + 128].any() for x in (0, 128, 256)] == [True, True, False]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[", "cut off or not JSON at line 1, column 2"),
        (json.dumps([predicted("a.png", {"value": 1.0})]), "holds no faces with landmarks"),
        (json.dumps([predicted("a.png", {"points": [[0, 0, 1]] * 5})]), "holds no faces with"),
        (json.dumps([predicted("a.png", {"points": [0] * 21})]), "holds no faces with landmarks"),
        (json.dumps({"images": []}), "holds no faces with landmarks"),
        ("3", "holds no faces with landmarks"),
        ("[]", "none of its 1 pictures can be used"),
    ],
)
def test_predictions_that_no_mask_fits_are_named(tmp_path, text, fault):
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in/a.png"), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "found.json").write_text(text)
    with pytest.raises(UserError, match=fault):
        write_masked(tmp_path / "in", tmp_path / "out", faces=tmp_path / "found.json")
    with pytest.raises(UserError, match=r"nowhere.json: cannot be read \(No such file"):
        write_masked(tmp_path / "in", tmp_path / "out", faces=tmp_path / "nowhere.json")


def test_real_chips_wear_masks_where_their_mouths_are():
    folder = data_set("ytfaces68_udacity")
    table = (folder / "keypoints.csv").read_text().splitlines()[1:20]
    pictures = {path.name: path for path in folder.rglob("*.jpg")}
    for i, line in enumerate(table):
        name, *numbers = line.split(",")
        points = np.array(numbers, float).reshape(68, 2)
        image = cv2.imread(str(pictures[name.split("/")[-1]]))
        outline = put_on(image, frame_of(points), wearing("surgical", seed=i)).outline
        mouth = np.rint(points[48:]).astype(int)
        eyes = np.rint(points[36:48]).astype(int)
        assert outline[mouth[:, 1], mouth[:, 0]].mean() > 0.9
        assert outline[eyes[:, 1], eyes[:, 0]].mean() < 0.1
