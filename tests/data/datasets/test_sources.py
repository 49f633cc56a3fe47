"""Source blocks of a config are opened, split and merged, and every mistake is reported."""

import json
import logging
from pathlib import Path
from typing import Any
from zlib import crc32

import cv2
import numpy as np
import pytest
from annotated import labels_of
from mistakes import check_faults, check_names, refused, unnamed

from mtl_jax.attributes import declarations as attribute_kinds
from mtl_jax.config.options.data import SourceOptions
from mtl_jax.data.datasets import splits
from mtl_jax.data.datasets.sources import (
    open_external,
    open_sources,
    open_split,
)
from mtl_jax.data.face_masks.apply import with_masks
from mtl_jax.data.pixels import own_pixels, read_pixels
from mtl_jax.data.records import Category
from mtl_jax.errors import AnnotationErrors, UserError

AGE = attribute_kinds.from_config({"age": {"kind": "continuous", "range": (0, 116)}})
SHAPES = {"format": "shapes", "length": 40}


def save(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(crc32(path.name.encode())).integers(0, 255, (40, 50, 3), np.uint8)
    cv2.imwrite(str(path), image)


def write_faces(folder: Path, count: int, start: int = 0) -> None:
    for i in range(start, start + count):
        save(folder / f"{i}_0_0_{20170109000000000 + i}.jpg")


def write_coco(folder: Path, names: list[str], count: int = 10) -> Path:
    images, annotations = [], []
    for i in range(count):
        save(folder / f"images/{i}.png")
        images.append({"id": 100 + i, "file_name": f"{i}.png", "width": 50, "height": 40})
        for k in range(len(names)):
            box = [1 + k, 2, 10, 20]
            number = len(annotations) + 1
            one = {"id": number, "image_id": 100 + i, "category_id": 7 + k, "bbox": box, "age": i}
            annotations.append(one)
    categories = [{"id": 7 + k, "name": name} for k, name in enumerate(names)]
    path = folder / "x.json"
    path.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    return path


@pytest.fixture(autouse=True)
def data_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MTL_JAX_DATA", str(tmp_path))
    return tmp_path


def options(*blocks: dict[str, Any], **more: Any) -> SourceOptions:
    return SourceOptions(sources=blocks, **more)


def ids(opened) -> list[list]:
    return [[source[i].image_id for i in range(len(source))] for source in opened.sources]


def test_faces_and_their_copies_stay_in_one_split(data_root: Path):
    write_faces(data_root / "faces", 60)
    for path in sorted((data_root / "faces").iterdir())[::2]:  # other pixels, other order
        save(data_root / f"masked/{path.stem}.png")
    blocks = [{"format": "utkface", "path": n, "name": n} for n in ("faces", "masked")]
    alone = {"format": "utkface", "path": "others", "name": "others"}
    write_faces(data_root / "others", 40, start=70)
    with_copies = open_sources(SourceOptions(sources=(*blocks, alone)), AGE)
    by_itself = open_sources(SourceOptions(sources=(alone,)), AGE)
    for split, opened in with_copies.items():
        faces, copies, others = ([r.image.stem for r in source] for source in opened.sources)
        assert len(copies) > 2
        assert set(copies) <= set(faces)
        assert others == [record.image.stem for record in by_itself[split].sources[0]]
    assert sum(len(opened.sources[1]) for opened in with_copies.values()) == 30


def test_images_in_two_annotation_files_stay_in_one_split(data_root: Path):
    for name in ("cats", "dogs"):
        write_coco(data_root / name, [name], count=20)
    blocks = [{"format": "coco", "path": n, "name": n} for n in ("cats", "dogs")]
    for opened in open_sources(SourceOptions(sources=tuple(blocks)), ()).values():
        cats, dogs = (sorted(record.file_name for record in source) for source in opened.sources)
        assert cats == dogs != []


def test_classes_of_other_sources_are_unlabelled(data_root: Path):
    write_coco(data_root / "cats", ["cat"])
    write_coco(data_root / "pets", ["dog", "cat"])
    blocks = [{"format": "coco", "path": n, "name": n} for n in ("cats", "pets")]
    cats, pets = open_split(options(*blocks), (), "train").sources
    names = [category.name for category in cats.categories]
    assert cats[0].unlabelled == (names.index("dog") + 1,)
    assert pets[0].unlabelled == ()
    blocks[0]["exhaustive"] = True  # declares that there are no dogs
    assert open_split(options(*blocks), (), "train").sources[0][0].unlabelled == ()


def test_copies_of_faces_of_a_fixed_split_are_reported(data_root: Path, caplog):
    write_faces(data_root / "faces", 9)
    write_faces(data_root / "masked", 9)
    train = {"format": "utkface", "path": "faces", "name": "faces", "split": "train"}
    copies = {"format": "utkface", "path": "masked", "name": "masked"}
    with caplog.at_level(logging.WARNING):
        open_sources(SourceOptions(sources=(train, copies)), AGE)
    assert any(not unnamed(message, ("faces", "train", 9)) for message in caplog.messages)


def test_labels_of_a_block_are_defaults_of_all_its_instances(data_root: Path):
    write_coco(data_root / "coco", ["face"])
    labelled = {"format": "coco", "labels": {"age": 50, "masked": "yes"}, "split": "val"}
    record = open_split(options(labelled), AGE, "val").sources[0][3]
    assert labels_of(record.instances[0], with_masks(AGE)) == {"age": 3, "masked": "yes"}
    labelled["attribute_keys"] = {"age": "years"}  # no file has this field
    record = open_split(options(labelled), AGE, "val").sources[0][3]
    assert labels_of(record.instances[0], with_masks(AGE)) == {"age": 50, "masked": "yes"}
    other = open_external(data_root / "coco", options(labelled), AGE).sources[0][3]
    assert other.instances[0].attributes == {}  # they do not apply to other data
    for wrong in (130, {"a": 1}):
        labelled["labels"] = {"age": wrong}
        with refused("config.data", "labels", "coco", "age", wrong):
            open_split(options(labelled), AGE, "val")


def test_every_record_is_in_one_split(data_root: Path):
    write_coco(data_root / "coco", ["face"])
    opened = open_sources(SourceOptions(format="coco"), AGE)
    found = [ids(opened[name])[0] for name in splits.NAMES]
    assert [len(part) for part in found] == [7, 2, 1] or [len(part) for part in found] == [7, 1, 2]
    assert sorted(i for part in found for i in part) == list(range(100, 110))
    assert labels_of(opened["train"].sources[0][0].instances[0], AGE)["age"] in range(10)


def test_an_existing_splits_file_is_used(
    data_root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    folder = data_root / "utkface"
    write_faces(folder, 20)
    path = tmp_path / "run/splits.json"
    first = open_split(SourceOptions(format="utkface"), AGE, "val", path)
    write_faces(folder, 3, start=20)
    (folder / sorted(p.name for p in folder.iterdir())[0]).unlink()
    with caplog.at_level(logging.WARNING):
        again = open_sources(SourceOptions(format="utkface", split_seed=9), AGE, path)
    names = {first.sources[0][i].file_name for i in range(len(first.sources[0]))}
    val = again["val"].sources[0]
    assert names - {val[i].file_name for i in range(len(val))} <= {"0_0_0_20170109000000000.jpg"}
    check_faults(
        [message.removeprefix(str(path)) for message in caplog.messages if str(path) in message],
        (1, "utkface", "0_0_0_20170109000000000.jpg"),
        (3, "utkface", "20_0_0_20170109000000020.jpg"),
    )
    assert sum(len(part.sources[0]) for part in again.values()) == 19


def test_classes_are_merged_by_name(data_root: Path):
    write_coco(data_root / "a", ["face", "hand"])
    write_coco(data_root / "b", ["car", "hand"])
    blocks = [{"format": "coco", "path": name, "split": "train"} for name in "ab"]
    opened = open_split(options(*blocks, {**SHAPES, "weight": 0.5}), (), "train")
    names = [category.name for category in opened.categories]
    assert names == ["face", "hand", "car", "square", "circle", "triangle"]
    assert len({category.id for category in opened.categories}) == 6
    assert opened.categories[:2] == ((7, "face"), (8, "hand"))
    labels = [[i.label for i in source[0].instances] for source in opened.sources[:2]]
    assert labels == [[1, 2], [3, 2]]
    assert opened.weights == (1.0, 1.0, 0.5)


def test_ids_of_classes_are_kept_unless_they_conflict(data_root: Path):
    write_coco(data_root / "a", ["person"])
    write_coco(data_root / "b", ["car", "cat", "person"])
    blocks = [{"format": "coco", "path": name, "name": name, "split": "val"} for name in "ab"]
    opened = open_split(options(*blocks), (), "val")
    assert opened.names == ("a", "b")
    assert opened.categories == ((7, "person"), (10, "car"), (8, "cat"))


def test_classes_are_renamed_before_they_are_merged(data_root: Path):
    write_coco(data_root / "a", ["face"])
    write_coco(data_root / "b", ["car", "head", "profile"])
    other = {"format": "coco", "path": "b", "split": "train"}
    other["rename"] = {"head": "face", "profile": "face"}
    blocks = options({"format": "coco", "path": "a", "split": "train"}, other)
    opened = open_split(blocks, (), "train")
    assert opened.categories == ((7, "face"), (10, "car"))
    labels = [[i.label for i in source[0].instances] for source in opened.sources]
    assert labels == [[1], [2, 1, 1]]
    # For a model of faces, a folder of heads can be read only with the class renamed.
    model = (Category(7, "face"),)
    external = open_external(data_root / "b", options(other), (), categories=model)
    assert [i.label for i in external.sources[0][0].instances] == [1, 1]
    found = open_external(
        data_root / "a", options(other), (), categories=model
    )  # no class to rename
    assert [i.label for i in found.sources[0][0].instances] == [1]
    del other["rename"]
    with refused("car", "head", "profile", "face"):
        open_external(data_root / "b", options(other), (), categories=model)


@pytest.mark.parametrize(
    ("rename", "parts"),
    [
        ({"haed": "face"}, ("haed", "head")),
        ({"tree": "face"}, ("tree", "car", "head")),
        ("head", ("head", "{}")),
    ],
)
def test_renaming_an_unknown_class_is_refused(data_root: Path, rename, parts: tuple):
    write_coco(data_root / "coco", ["car", "head"])
    with refused("config.data", "coco", "rename", *parts):
        open_split(options({"format": "coco", "rename": rename}), (), "train")


def test_blocks_of_one_split_and_the_classes_of_a_model(data_root: Path):
    write_coco(data_root / "a", ["face"])
    blocks = [{**SHAPES, "split": "train"}, {"format": "coco", "path": "a", "split": "test"}]
    opened = open_sources(options(*blocks), ())
    assert [len(opened[name].sources) for name in splits.NAMES] == [1, 0, 1]
    model = (Category(1, "hand"), Category(7, "face"))
    external = open_external(data_root / "a", options(blocks[1]), (), categories=model)
    assert external.categories == model
    assert external.sources[0][0].instances[0].label == 2
    with refused("face", "hand"):
        open_external(data_root / "a", options(blocks[1]), (), categories=model[:1])


def test_instances_of_files_without_classes_keep_their_one_class(data_root: Path):
    model = (Category(1, "person"),)
    for folder in ("a", "b"):
        save(data_root / folder / "images/0.png")
        (data_root / folder / "masks").mkdir()
        cv2.imwrite(str(data_root / folder / "masks/0.png"), np.eye(50, dtype=np.uint8)[:40])
    block = {"format": "masks", "path": "a", "categories": ("person",)}
    external = open_external(data_root / "b", options(block), (), categories=model)
    assert [i.label for i in external.sources[0][0].instances] == [1]
    # Fields that split or select the config's own data are not required of other data.
    write_coco(data_root / "c", ["person"])
    block = {"format": "coco", "path": "c", "group_key": "site"}
    external = open_external(data_root / "c", options(block), (), categories=model)
    assert len(external.sources[0]) == 10


def test_rare_classes_are_repeated_in_training_only(data_root: Path):
    mixed = write_coco(data_root / "mixed", ["face"])
    lists = json.loads(mixed.read_text())
    lists["categories"].append({"id": 9, "name": "cow"})
    lists["annotations"][0]["category_id"] = 9
    mixed.write_text(json.dumps(lists))
    block = {"format": "coco", "path": "mixed", "split": "train", "repeat_threshold": 0.9}
    opened = open_split(options(block), (), "train")
    assert len(opened.sources[0]) == 10
    assert len(opened.repeated().sources[0]) >= 12  # the cow is repeated sqrt(0.9 / 0.1) times


def test_external_data_is_a_folder_or_a_file(data_root: Path):
    path = write_coco(data_root / "a", ["face"])
    block = {"format": "coco", "annotations": "elsewhere.json", "path": "nowhere"}
    for place in (path, data_root / "a"):
        opened = open_external(place, options(block), AGE)
        assert ids(opened) == [list(range(100, 110))]
        assert labels_of(opened.sources[0][3].instances[0], AGE) == {"age": 3}
    not_exhaustive = options({**block, "exhaustive": False})
    assert open_external(path, not_exhaustive, AGE).sources[0][0].exhaustive
    with refused(data_root / "a", "elsewhere.json", "config.data.annotations", "x.json"):
        open_sources(options({**block, "path": "a"}), AGE)
    with refused(data_root / "b"):
        open_external(data_root / "b", options(block), AGE)


def test_external_data_has_the_format_of_any_source(data_root: Path):
    write_coco(data_root / "a", ["face"])
    write_faces(data_root / "chips", 4)
    (data_root / "empty").mkdir()
    model = (Category(1, "face"),)
    blocks = options({"format": "shapes"}, {"format": "utkface"}, {"format": "coco"})
    for folder, count in (("a", 10), ("chips", 4)):
        opened = open_external(data_root / folder, blocks, AGE, categories=model)
        assert len(opened.sources[0]) == count
    empty = data_root / "empty"
    with pytest.raises(UserError) as caught:
        open_external(empty, blocks, AGE, categories=model)
    lines = str(caught.value).splitlines()
    check_faults(lines, [empty], ("utkface", empty), ("coco", empty, "config.data.annotations"))
    with refused(data_root / "a", "shapes"):
        open_external(data_root / "a", options({"format": "shapes"}), AGE, categories=model)
    path = data_root / "a/x.json"
    lists = json.loads(path.read_text())
    for annotation in lists["annotations"]:
        annotation["bbox"] = [5, 6]
    path.write_text(json.dumps(lists))
    with pytest.raises(UserError) as caught:
        open_external(data_root / "a", blocks, AGE, categories=model)
    line = str(caught.value).splitlines()[-1]
    check_names(line, "coco", path)
    # The line has the first fault and the number of the others.
    check_names(line.partition(str(path))[2], 1, "0.png", "bbox", "[5, 6]", 9)


def test_scenes_are_composed_from_chips_of_their_split_only(data_root: Path):
    write_faces(data_root / "utkface", 30)
    block = {"format": "utkface", "scene": {"size": 128, "sides": (20, 60), "length": 50}}
    opened = open_sources(options(block), AGE)
    assert len(opened["train"].sources[0]) == 50
    used = {
        name: [i.id for k in range(len(part.sources[0])) for i in part.sources[0][k].instances]
        for name, part in opened.items()
    }
    assert not set(used["train"]) & set(used["val"]) | set(used["val"]) & set(used["test"])
    assert len(used["val"]) == len(set(used["val"]))
    assert {i for part in used.values() for i in part} == set(range(1, 31))


def test_exhaustive_of_a_block_is_used():
    opened = open_split(options({**SHAPES, "exhaustive": False}), (), "train")
    assert not opened.sources[0][0].exhaustive
    assert open_split(options(SHAPES), (), "train").sources[0][0].exhaustive


def test_faults_are_listed_when_skipped(data_root: Path, caplog: pytest.LogCaptureFixture):
    path = write_coco(data_root / "a", ["face"])
    path.write_text(path.read_text().replace("[1, 2, 10, 20]", "[5, 2, 0, 20]", 1))
    block = {"format": "coco", "path": "a"}
    with pytest.raises(AnnotationErrors) as caught:
        open_sources(options(block), ())
    (line,) = caught.value.faults
    check_names(line, path)
    check_names(line.removeprefix(str(path)), 1, "0.png", "bbox", "[5, 2, 0, 20]")
    with caplog.at_level(logging.WARNING):
        open_sources(options(block, on_error="skip"), ())
    assert any(line in message for message in caplog.messages)


@pytest.mark.parametrize(
    ("block", "parts"),
    [
        ({"format": "cocoo"}, ("format", "cocoo", "coco")),
        ({"format": "shapes", "lenght": 3}, ("shapes", "lenght", "length")),
        ({"format": "shapes", "length": "3"}, ("shapes", "length", "'3'", 1000)),
        ({"format": "shapes", "size": 3}, ("shapes", "size", 32)),
        ({"format": "shapes", "split": "valid"}, ("split", "valid", *splits.NAMES)),
        ({"format": "shapes", "weight": -1}, ("shapes", "weight", -1)),
        ({"format": "shapes", "scene": {"sise": 3}}, ("shapes", "scene", "sise", "size")),
    ],
)
def test_mistakes_are_one_line(block: dict[str, Any], parts: tuple):
    with refused("config.data", *parts):
        open_sources(options(block), ())


@pytest.mark.parametrize(
    ("block", "folder", "parts"),
    [
        ({"format": "prima"}, "prima", ["http://www-prima.inrialpes.fr"]),
        ({"format": "utkface"}, "utkface", ["susanqq.github.io/UTKFace", "non-commercial"]),
        ({"format": "fairface", "path": "there"}, "there", ["CC BY 4.0"]),
        ({"format": "coco"}, "coco", ["cocodataset.org"]),
    ],
)
def test_the_origin_and_folder_of_missing_data_are_named(
    data_root: Path, block: dict[str, Any], folder: str, parts: list[str]
):
    with refused(data_root / folder, block["format"], *parts, "config.data.path"):
        open_sources(options(block), ())


def test_missing_sources_and_a_missing_data_root_are_reported(monkeypatch: pytest.MonkeyPatch):
    with refused("config.data.format"):
        open_sources(SourceOptions(), ())
    monkeypatch.delenv("MTL_JAX_DATA")
    with refused("prima", "MTL_JAX_DATA"):
        open_sources(SourceOptions(format="prima"), ())
    with refused("split", "trein", "train"):
        open_split(options(SHAPES), (), "trein")


def test_short_fields_change_the_first_block(data_root: Path):
    write_coco(data_root / "a", ["face"])
    opened = open_split(options({"format": "coco", "path": "b"}, path="a"), (), "train")
    assert len(opened.sources[0]) == 7


@pytest.mark.parametrize("external", [False, True])
def test_levels_of_a_config_apply_to_its_16_bit_images(tmp_path, external):
    path = write_coco(tmp_path, ["thing"], count=6)
    values = np.arange(2000, dtype=np.uint16).reshape(40, 50) % 400
    for i in range(6):
        cv2.imwrite(str(tmp_path / f"images/{i}.png"), values)
    dim, bright = (
        SourceOptions(format="coco", path=str(path), levels=levels)
        for levels in ((0, 65535), (0, 400))
    )
    for options, high in ((dim, 2), (bright, 254)):
        opened = open_external(path, options, ()) if external else open_split(options, (), "train")
        record = opened.sources[0][0]
        assert read_pixels(record, 3).max() == own_pixels(record).max() == high
