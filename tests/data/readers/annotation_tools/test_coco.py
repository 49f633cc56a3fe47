"""The COCO reader: valid records are read, and all faults are reported at once."""

import copy
import json
import math
import random
import time
from pathlib import Path

import cv2
import numpy as np
import pycocotools.mask
import pytest
from annotated import labels_of
from hypothesis import given, settings
from hypothesis import strategies as st
from mistakes import check_names, refused, unnamed
from real_data import data_set

from mtl_jax.attributes import declarations as attribute_kinds
from mtl_jax.data.readers.annotation_tools.coco import CocoSource
from mtl_jax.data.segmentation import to_mask
from mtl_jax.errors import AnnotationErrors, UserError

HEIGHT, WIDTH = 20, 30
SQUARE = [2.0, 3.0, 12.0, 3.0, 12.0, 13.0, 2.0, 13.0]
POSE = attribute_kinds.from_config({"head": {"kind": "pose", "angles": ("yaw", "pitch")}})
AGE = attribute_kinds.from_config({"age": {"kind": "continuous", "range": (0, 116)}})


def disc() -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return (x - 15) ** 2 + (y - 10) ** 2 < 36


def compressed(mask: np.ndarray) -> dict:
    rle = pycocotools.mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [HEIGHT, WIDTH], "counts": rle["counts"].decode()}


def uncompressed(mask: np.ndarray) -> dict:
    counts, value = [], False
    for pixel in mask.ravel(order="F"):
        if pixel != value or not counts:
            counts += [0] if pixel and not counts else []
            counts.append(0)
            value = bool(pixel)
        counts[-1] += 1
    return {"size": [HEIGHT, WIDTH], "counts": counts}


def example() -> dict:
    """Return COCO data with every encoding, gaps between category ids, a crowd and a negative."""
    common = {"image_id": 5, "iscrowd": 0}
    box = {"bbox": [2.0, 3.0, 10.0, 10.0]}
    return {
        "images": [
            {"id": 5, "file_name": "a.png", "width": WIDTH, "height": HEIGHT},
            {"id": 9, "file_name": "below/b.png", "width": WIDTH, "height": HEIGHT},
            {"id": 7, "file_name": "c.png"},
        ],
        "categories": [{"id": 44, "name": "face"}, {"id": 3, "name": "hand"}],
        "annotations": [
            {**common, **box, "id": 1, "category_id": 44, "segmentation": [SQUARE], "area": 100},
            {**common, **box, "id": 2, "category_id": 3},
            {**common, "id": 3, "category_id": 44, "segmentation": [SQUARE]},
            {**common, "id": 4, "category_id": 44, "segmentation": compressed(disc())},
            {**common, "id": 8, "category_id": 3, "segmentation": uncompressed(disc())},
            {
                "image_id": 7,
                "id": 6,
                "category_id": 3,
                "iscrowd": 1,
                "segmentation": uncompressed(disc()),
                "bbox": [9, 4, 12, 12],
                "attributes": {"age": 4},
            },
        ],
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("coco")
    (path / "below").mkdir()
    for name in ("a.png", "below/b.png", "c.png"):
        cv2.imwrite(str(path / name), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    (path / "empty.png").touch()
    return path


def write(folder: Path, data: object) -> Path:
    path = folder / "x.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path


def faults(folder: Path, data: object, **options) -> tuple[str, ...]:
    path = write(folder, data)
    with pytest.raises(AnnotationErrors) as caught:
        CocoSource(path, folder, **options)
    assert all(line.startswith(f"{path}: ") and "\n" not in line for line in caught.value.faults)
    return tuple(line.removeprefix(f"{path}: ") for line in caught.value.faults)


def test_every_valid_record_is_read(folder: Path):
    source = CocoSource(write(folder, example()), folder)
    assert source.categories == ((3, "hand"), (44, "face"))
    assert [source[i].image_id for i in range(3)] == [5, 9, 7]
    assert [len(source[i].instances) for i in range(3)] == [5, 0, 1]
    first = source[0].instances
    assert [i.label for i in first] == [2, 1, 2, 2, 1]
    assert first[0].box == first[1].box == first[2].box == (2, 3, 12, 13)
    assert first[1].segmentation is None
    assert first[0].area == 100
    x = np.flatnonzero(disc().any(0))
    y = np.flatnonzero(disc().any(1))
    for instance in first[3:]:
        assert instance.box == (x[0], y[0], x[-1] + 1, y[-1] + 1)
        assert np.array_equal(to_mask(instance.segmentation, HEIGHT, WIDTH), disc())
    crowd = source[2]
    assert (crowd.height, crowd.width) == (HEIGHT, WIDTH)  # read from the image
    assert crowd.instances[0].crowd
    assert source.group(1) == "below/b.png"


def broken(change) -> dict:
    data = example()
    change(data)
    return data


FIRST = (1, 5, "a.png")


def image(**fields):
    return lambda data: data["images"][0].update(fields)


def annotation(place: int, **fields):
    return lambda data: data["annotations"][place].update(fields)


def rle(place: int, **fields):
    return lambda data: data["annotations"][place]["segmentation"].update(fields)


@pytest.mark.parametrize(
    ("change", "record", "named"),
    [
        (annotation(0, bbox=[2, 3, 29.5, 10]), FIRST, ("bbox", "[2, 3, 29.5, 10]", 1.5, 30, 20)),
        (annotation(0, bbox=[-1.5, 3, 5, 10]), FIRST, ("bbox", "[-1.5, 3, 5, 10]")),
        (annotation(0, bbox=[2, 3, 0, 10]), FIRST, ("bbox", "[2, 3, 0, 10]")),
        (annotation(0, bbox=[2, 3, -4, 10]), FIRST, ("bbox", "[2, 3, -4, 10]")),
        (annotation(0, bbox=[2, 3, math.nan, 10]), FIRST, ("bbox", "[2, 3, nan, 10]")),
        (annotation(0, bbox=[2, 3, 10**400, 10]), FIRST, ("bbox",)),
        (annotation(0, bbox=[2, "3", 4, 10]), FIRST, ("bbox", "[2, '3', 4, 10]")),
        (annotation(0, segmentation=[[1, 2, 3, 4]]), FIRST, (4,)),
        (annotation(0, segmentation=[SQUARE, []]), FIRST, (0,)),
        (annotation(2, segmentation=[[]]), (3, 5, "a.png"), ("bbox", "segmentation")),
        (annotation(0, segmentation=[SQUARE[:-1]]), FIRST, (7,)),
        (annotation(0, segmentation=[[*SQUARE, math.inf, 1]]), FIRST, ("2.0, 3.0, 12.0",)),
        (annotation(0, segmentation=[[*SQUARE, 99, 1]]), FIRST, (69, 30, 20)),
        (annotation(0, category_id=4), FIRST, ("category_id", 4)),
        (annotation(0, image_id=4), (1, 4), ("image_id", 4)),
        (annotation(0, id=2), (2, 5, "a.png"), ("id",)),
        (
            lambda data: data["annotations"][2].pop("segmentation"),
            (3, 5, "a.png"),
            ("bbox", "segmentation"),
        ),
        (rle(3, size=[30, 20]), (4, 5, "a.png"), ("[30, 20]", "[20, 30]")),
        (rle(3, counts="12"), (4, 5, "a.png"), (3, 600)),
        (rle(3, counts="oo"), (4, 5, "a.png"), ("counts", "oo")),
        (
            lambda data: data["annotations"][4]["segmentation"]["counts"].append(7),
            (8, 5, "a.png"),
            (607, 600),
        ),
        (image(file_name="no.png"), (5, "no.png"), ()),
        (image(file_name="empty.png"), (5, "empty.png"), ()),
        (image(id=9), (9, "below/b.png"), ("id",)),
        (image(width=0), (5, "a.png"), ("width", 0)),
        (image(width=30.5), (5, "a.png"), ("width", 30.5)),
        (image(width=1e308), (5, "a.png"), ("width",)),
        (
            image(file_name="http://x/a.png"),
            (5, "http://x/a.png"),
            ("file_name", "mtl_jax.data download"),
        ),
        (lambda data: data["categories"][0].update(id=3), ("categories[1]",), ("id", 3)),
        (lambda data: data["categories"][0].update(id=2**70), ("categories[0]",), ("id",)),
        (lambda data: data.pop("annotations"), ("'annotations'",), ()),
    ],
)
def test_each_fault_names_its_record(folder: Path, change, record: tuple, named: tuple):
    found = [line.partition(": ")[::2] for line in faults(folder, broken(change))]
    assert any(not unnamed(where, record) and not unnamed(what, named) for where, what in found)


def test_all_faults_are_reported_at_once_or_skipped(folder: Path):
    def change(data):
        data["annotations"][0]["bbox"] = [2, 3, 0, 10]
        data["annotations"][1]["category_id"] = 5
        data["images"][2]["file_name"] = "no.png"

    data = broken(change)
    lines = faults(folder, data)
    assert len(lines) == 3
    source = CocoSource(write(folder, data), folder, on_error="skip")
    assert len(source.skipped) == 3
    assert [source[i].image_id for i in range(len(source))] == [5, 9]
    assert [instance.id for instance in source[0].instances] == [3, 4, 8]


@pytest.mark.parametrize(
    ("change", "record", "named"),
    [
        # Three annotations have the class 44.
        ({"id": 44.0}, ("categories[0]",), ("id", 44.0)),
        ({"name": ""}, ("categories[0]",), ("name",)),
        ({"name": "a\ud800"}, ("categories[0]",), ("name", "ud800")),
        ({"name": "hand"}, ("categories[1]",), ("name", "hand")),
        ({"id": 45}, FIRST, ("category_id", 44)),
    ],
)
def test_one_bad_category_is_one_fault(folder: Path, change, record, named):
    data = broken(lambda data: data["categories"][0].update(change))
    if change.get("id") == 44.0:
        for each in (data["annotations"][i] for i in (0, 2, 3)):
            each["category_id"] = 44.0
    (line,) = faults(folder, data)
    where, _, what = line.partition(": ")
    check_names(where, *record)
    check_names(what, *named)


def test_a_box_alone_may_have_an_empty_polygon(folder: Path):
    def change(data):
        data["annotations"][0]["segmentation"] = [[]]
        del data["annotations"][0]["area"]

    instance = CocoSource(write(folder, broken(change)), folder)[0].instances[0]
    assert (instance.box, instance.segmentation) == ((2, 3, 12, 13), None)


def test_integral_sides_may_be_floats(folder: Path):
    data = broken(lambda d: d["images"][0].update(width=float(WIDTH), height=float(HEIGHT)))
    record = CocoSource(write(folder, data), folder)[0]
    assert (type(record.width), record.width, record.height) == (int, WIDTH, HEIGHT)
    assert to_mask(record.instances[0].segmentation, record.height, record.width).any()


def test_a_box_up_to_one_pixel_outside_is_clipped(folder: Path):
    data = broken(lambda d: d["annotations"][0].update(bbox=[-1, -0.5, 32, 21.5]))
    assert CocoSource(write(folder, data), folder)[0].instances[0].box == (0, 0, WIDTH, HEIGHT)


@pytest.mark.parametrize("text", ["", "{", '{"images": [', "[]", "17", "\x00", "[" * 100_000])
def test_a_file_that_is_not_coco_has_one_fault(folder: Path, text: str):
    assert len(faults(folder, text)) == 1


def test_images_in_another_folder_are_one_line(folder: Path):
    data = broken(lambda d: [i.update(file_name=f"no/{i['id']}.png") for i in d["images"]])
    (line,) = faults(folder, data)
    check_names(line, 3, folder, "no/5.png", "config.data.images")


def test_attributes_are_found_and_scaled(folder: Path):
    def change(data):
        for annotation, yaw, pitch in zip(
            data["annotations"], (90, 27, 180), (90, 136, 0), strict=False
        ):
            annotation.update(Pitch=yaw, Yaw=pitch, age=[20, 29])

    path = write(folder, broken(change))
    source = CocoSource(path, folder, POSE, preset="mtl_mrcnn")
    found = [labels_of(i, POSE).get("head") for i in source[0].instances[:4]]
    # MTL_MRCNN's Pitch 27 turns the nose to the image's left, and its Yaw 0 turns it up.
    assert found == [
        {"yaw": 0, "pitch": 0},
        {"yaw": 63, "pitch": -46},
        {"yaw": -90, "pitch": 90},
        None,
    ]
    keys = {"head.yaw": ("Pitch", -1, 90), "head.pitch": ("Yaw", -1, 90)}
    nested = {"head": {"yaw": ("Pitch", -1, 90), "pitch": ("Yaw", -1, 90)}}
    for given_keys in (keys, nested):
        same = CocoSource(path, folder, POSE, keys=given_keys)
        assert [labels_of(i, POSE).get("head") for i in same[0].instances[:4]] == found
    aged = CocoSource(path, folder, AGE)
    assert labels_of(aged[0].instances[0], AGE) == {"age": [20, 29]}
    assert labels_of(aged[2].instances[0], AGE) == {"age": 4}  # from its attributes object
    doubled = CocoSource(path, folder, AGE, keys={"age": ("age", 2)})
    assert labels_of(doubled[2].instances[0], AGE) == {"age": 8}
    with refused("attribute_keys", "hed", "head"):
        CocoSource(path, folder, POSE, keys={"hed": "x"})


def test_a_wrong_label_is_a_fault_of_its_annotation(folder: Path):
    data = broken(lambda d: d["annotations"][0].update(age=300))
    (line,) = faults(folder, data, attributes=AGE)
    where, _, what = line.partition(": ")
    check_names(where, *FIRST)
    check_names(what, "age", 300, 0, 116)
    source = CocoSource(write(folder, data), folder, AGE, on_error="skip")
    assert source[0].instances[0].attributes == {}
    assert len(source[0].instances) == 5


def test_keypoints_are_landmarks_by_name_at_the_centres_of_their_pixels(folder: Path):
    def change(data):
        data["categories"][0]["keypoints"] = ["nose", "left_eye", "right_eye"]
        data["annotations"][0]["keypoints"] = [5, 6, 2, 0, 0, 0, 7, 8, 1]

    points = {"kind": "landmarks", "points": ("right_eye", "nose", "left_eye")}
    declared = attribute_kinds.from_config({"face": points})
    path = write(folder, broken(change))
    source = CocoSource(path, folder, declared, keys={"face": "keypoints"})
    values, known = source[0].instances[0].attributes["face"]
    assert values.reshape(3, 3)[:2].tolist() == [[7.5, 8.5, 0], [5.5, 6.5, 1]]
    assert known.reshape(3, 3).all(1).tolist() == [True, True, False]
    scaled = CocoSource(path, folder, declared, keys={"face": ("keypoints", 2, 0.25)})
    values, _ = scaled[0].instances[0].attributes["face"]
    assert values.reshape(3, 3)[0].tolist() == [15.25, 17.25, 0]


@pytest.mark.parametrize(
    "keypoints", [[5, 6, 2, 0, 0, 0, 7, 8, 1], [[5, 6, 2], None, [7, 8, 1]]], ids=["flat", "rows"]
)
def test_keypoints_without_names_are_indices_too(folder: Path, keypoints):
    points = {"kind": "landmarks", "points": ("nose", "left_eye", "right_eye")}
    declared = attribute_kinds.from_config({"face": points})
    path = write(folder, broken(lambda d: d["annotations"][0].update(keypoints=keypoints)))
    source = CocoSource(path, folder, declared, keys={"face": "keypoints"})
    values, _ = source[0].instances[0].attributes["face"]
    assert values.reshape(3, 3)[[0, 2]].tolist() == [[5.5, 6.5, 1], [7.5, 8.5, 0]]


def test_points_of_other_keys_are_coordinates(folder: Path):
    declared = attribute_kinds.from_config({"nose": {"kind": "landmarks", "points": ("a",)}})
    path = write(folder, broken(lambda d: d["annotations"][0].update(nose=[5, 6, 2])))
    values, _ = CocoSource(path, folder, declared)[0].instances[0].attributes["nose"]
    assert values.tolist() == [5, 6, 1]


def test_a_point_far_outside_the_image_is_named(folder: Path):
    def change(data):
        data["annotations"][0]["nose"] = [[5, 6], [5000, 6, 2]]
        data["annotations"][1]["nose"] = [[5, 6], [5000, 6, 0]]  # not labelled

    declared = attribute_kinds.from_config({"nose": {"kind": "landmarks", "points": ("a", "b")}})
    data = broken(change)
    (line,) = faults(folder, data, attributes=declared)
    where, _, what = line.partition(": ")
    check_names(where, *FIRST)
    check_names(what, "nose", "b", "(5000, 6)", WIDTH, HEIGHT)
    instances = CocoSource(write(folder, data), folder, declared, on_error="skip")[0].instances
    found = [labels_of(instance, declared) for instance in instances[:2]]
    assert found == [{}, {"nose": [[5, 6], None]}]


def test_crowds_are_read_as_objects_if_the_source_says_so(folder: Path):
    path = write(folder, example())
    crowd, same = (CocoSource(path, folder, crowd=c)[2].instances[0] for c in ("ignore", "objects"))
    assert (crowd.crowd, same.crowd) == (True, False)
    assert np.array_equal(to_mask(same.segmentation, HEIGHT, WIDTH), disc())


def test_the_classes_of_left_out_annotations_are_kept(folder: Path):
    data = broken(lambda d: [d["annotations"][i].update(bbox=[2, 3, 0, 1]) for i in (0, 1)])
    path = write(folder, data)
    source = CocoSource(path, folder, on_error="skip")
    assert [source[i].dropped for i in range(3)] == [(2, 1), (), ()]
    assert [source[i].exhaustive for i in range(3)] == [False, True, True]  # their boxes are wrong


def test_left_out_annotations_with_a_box_are_ignored_regions(folder: Path):
    def spoil(data):
        data["annotations"][0]["segmentation"] = [[1, 2]]
        data["annotations"][1]["category_id"] = 77

    path = write(folder, broken(spoil))
    record = CocoSource(path, folder, on_error="skip")[0]
    assert record.ignored == ((2, 3, 12, 13), (2, 3, 12, 13))
    assert record.exhaustive
    record = CocoSource(path, folder, categories=("hand",), on_error="skip")[0]
    assert record.ignored == ((2, 3, 12, 13),)  # the unknown category can be a hand


def test_the_classes_of_left_out_annotations_of_other_classes_are_not_kept(folder: Path):
    data = broken(lambda d: [d["annotations"][i].update(bbox=[2, 3, 0, 1]) for i in (0, 1)])
    path = write(folder, data)
    faces = CocoSource(path, folder, categories=("face",), on_error="skip")
    assert faces[0].dropped == (1,)


def test_an_unused_category_may_have_the_name_of_a_class(folder: Path):
    data = broken(lambda d: d["categories"].insert(0, {"id": 0, "name": "face"}))
    assert CocoSource(write(folder, data), folder).categories == ((3, "hand"), (44, "face"))
    data["annotations"][0]["category_id"] = 0
    lines = faults(folder, data)
    check_names(lines[0], "categories[1]", "name", "'face'")


def test_categories_can_be_selected(folder: Path):
    path = write(folder, example())
    source = CocoSource(path, folder, categories=("face",))
    assert source.categories == ((44, "face"),)
    assert [i.id for i in source[0].instances] == [1, 3, 4]
    assert len(source) == 3
    with refused(path, "fase", "face"):
        CocoSource(path, folder, categories=("fase",))


JUNK = (None, -1, 0, 10**400, 1e308, math.nan, math.inf, "", "\ud800", "a\nb", [], {}, [[]], True)


def places(value: object, path: tuple = ()) -> list[tuple]:
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else []
    items = enumerate(value) if isinstance(value, list) else items
    for key, item in items:
        found += places(item, (*path, key))
    return found


def mutate(data: dict, rng: random.Random) -> str:
    for _ in range(rng.randint(1, 3)):
        *path, key = rng.choice(places(data) or [("images",)])
        parent: object = data
        for step in path:
            parent = parent[step]  # type: ignore[index]
        kind = rng.randrange(4)
        if kind == 0:
            del parent[key]  # type: ignore[attr-defined]
        elif kind == 1 and isinstance(parent, list):
            parent.append(copy.deepcopy(parent[key]))
        else:
            parent[key] = copy.deepcopy(rng.choice(JUNK))  # type: ignore[index]
    text = json.dumps(data)
    return text[: rng.randrange(len(text) + 1)] if rng.random() < 0.1 else text


@settings(max_examples=1000, deadline=None, database=None)
@given(st.randoms(use_true_random=False))
def test_a_thousand_broken_files_are_faults_or_valid_records(folder: Path, rng: random.Random):
    path = write(folder, mutate(copy.deepcopy(example()), rng))
    try:
        source = CocoSource(path, folder, (*POSE, *AGE), preset="mtl_mrcnn")
    except UserError as error:
        lines = str(error).split("\n")
        assert all(line.startswith(f"{path}: ") for line in lines)
        assert all(line.isprintable() or line.encode() for line in lines)
        source = None
        try:
            source = CocoSource(path, folder, (*POSE, *AGE), on_error="skip")
        except UserError:
            return
    for position in range(len(source)):
        record = source[position]
        for instance in record.instances:
            x1, y1, x2, y2 = instance.box
            assert 0 <= x1 < x2 <= record.width
            assert 0 <= y1 < y2 <= record.height
            if instance.segmentation is not None and record.height * record.width < 10_000:
                to_mask(instance.segmentation, record.height, record.width)


def test_the_mini_set():
    root = data_set("coco_mini")
    declared = attribute_kinds.from_config(
        {"face": {"kind": "landmarks", "points": ("nose", "left_eye", "right_eye")}}
    )
    source = CocoSource(root / "annotations/instances.json", root / "images")
    assert len(source) == 112
    assert sum(len(source[i].instances) for i in range(112)) == 979
    assert len(source.categories) == 80
    assert (source.categories[11], source.categories[12]) == (
        (13, "stop sign"),
        (14, "parking meter"),
    )
    people = CocoSource(
        root / "annotations/person_keypoints.json",
        root / "images",
        declared,
        keys={"face": "keypoints"},
    )
    instances = [i for r in range(112) for i in people[r].instances]
    labels = [i.attributes["face"] for i in instances if i.attributes]
    assert sum(known.any() for _, known in labels) > 50


ZIGZAG = [value for i in range(60_000) for value in (29.0 * (i % 2), 19.0 * (i // 2 % 2))]
OUTLINES = {
    "a million points": ([SQUARE * 250_000], "100,000"),
    "many parts": ([SQUARE] * 30_000, "100,000"),
    "a long outline": ([ZIGZAG], "1,000,000"),
}


@pytest.mark.parametrize("what", OUTLINES)
def test_a_polygon_that_is_too_long_to_rasterise_is_a_fault(folder: Path, what):
    polygons, limit = OUTLINES[what]
    start = time.process_time()
    (fault,) = faults(folder, broken(annotation(0, segmentation=polygons)))
    assert time.process_time() - start < 10
    check_names(fault, 1, "a.png", limit)
    with refused(limit, error=ValueError):
        to_mask(polygons, HEIGHT, WIDTH)


def test_a_polygon_far_outside_is_not_rasterised():
    for far in (1e7, 1e300, math.nan):
        with refused(error=ValueError):
            to_mask([[1.0, 1.0, far, 2.0, 3.0, 30.0]], HEIGHT, WIDTH)


@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_an_rle_of_more_than_32_bits_is_a_fault(folder: Path, on_error):
    def change(data):
        data["images"][0].update(width=100_000, height=50_000)
        size, counts = [50_000, 100_000], [2**32, 5 * 10**9 - 2**32]
        data["annotations"][4].update(segmentation=dict(size=size, counts=counts))

    path = write(folder, broken(change))
    if on_error == "stop":
        with refused("a.png", 100000, error=AnnotationErrors):
            CocoSource(path, folder)
    else:
        check_names(CocoSource(path, folder, on_error="skip").skipped[0], "a.png", 100000)


def test_numbers_that_cancel_are_not_finite(folder: Path):
    (fault,) = faults(folder, broken(annotation(0, bbox=[10**400, -(10**400), 3, 4])))
    check_names(fault, 1, "bbox", "finite")


@pytest.mark.parametrize(
    ("licences", "used", "expected"),
    [
        ([{"id": 1, "name": "CC BY"}, {"id": 2, "name": "CC0"}], (1, 1, 1), "CC BY"),
        ([{"id": 1, "name": "CC BY"}, {"id": 2, "url": "http://x"}], (2, 1, 9), "CC BY; http://x"),
        ([{"id": 1, "name": "CC BY"}, {"id": 2, "name": "CC0"}], (), "CC BY; CC0"),
        ([], (1, 1, 1), ""),
        ("CC BY", (), ""),
        ([None, {"name": ["x"]}, {"id": {}, "name": ""}], ([], "b", "a"), "['x']"),
        ([{"id": 1, "name": "a\nb" * 500}], (), None),
    ],
)
def test_the_licences_of_the_images_are_read(folder: Path, licences, used, expected):
    data = example() | {"licenses": licences}
    for picture, licence in zip(data["images"], used, strict=False):
        picture["license"] = licence
    found = CocoSource(write(folder, data), folder).licence
    assert found == expected if expected is not None else len(found) < 400
    assert found.isprintable()
