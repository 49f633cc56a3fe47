"""Tests that train.py reports every fault in data and options in one line and exits with code 2
before any program is compiled.
"""

import json

import cv2
import numpy as np
import pytest
import scripts
from mistakes import check_names

from mtl_jax import experiment

COCO = str(scripts.ROOT / "configs/coco_mask_rcnn.py:tiny")
UTKFACE = str(scripts.ROOT / "configs/utkface_age.py:tiny")
PRIMA = str(scripts.ROOT / "configs/prima_pose.py:tiny")


@pytest.fixture(autouse=True)
def began(monkeypatch, tmp_path):
    """Return a list that is empty unless a model was about to be initialized, the first program
    that is compiled.
    """
    monkeypatch.setenv("MTL_JAX_DATA", str(tmp_path / "data"))
    calls = []

    def initial_variables(*args, **kwargs):
        calls.append(args)
        raise RuntimeError("a model was made")

    monkeypatch.setattr(experiment, "initial_variables", initial_variables)
    return calls


def write_image(path, height=40, width=50):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(0, 255, (height, width, 3), np.uint8)
    assert cv2.imwrite(str(path), pixels)


def coco():
    """Return valid COCO annotations of ten images with one object each."""
    images = [{"id": i, "file_name": f"{i}.jpg", "height": 40, "width": 50} for i in range(10)]
    annotations = [
        {
            "id": i + 1,
            "image_id": i,
            "category_id": 3,
            "bbox": [5, 6, 20, 20],
            "area": 400,
            "iscrowd": 0,
            "segmentation": [[5, 6, 25, 6, 25, 26, 5, 26]],
        }
        for i in range(10)
    ]
    categories = [{"id": 3, "name": "cat"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_coco(folder, data):
    for i in range(10):
        write_image(folder / "coco_mini/images" / f"{i}.jpg")
    path = folder / "coco_mini/annotations/instances.json"
    path.parent.mkdir()
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path


def train(config, tmp_path, *arguments):
    return scripts.call("train", "--config", config, "--workdir", tmp_path / "run", *arguments)


def test_valid_data_reaches_the_model(tmp_path, began):
    write_coco(tmp_path / "data", coco())
    with pytest.raises(RuntimeError, match="a model was made"):
        train(COCO, tmp_path)
    assert len(began) == 1


FAULTS = {  # a change of an annotation, and parts of the message
    "a polygon of two points": ({"segmentation": [[5, 6, 25, 6]]}, (4,)),
    "a box outside": ({"bbox": [45, 6, 20, 20]}, ("bbox", [45, 6, 20, 20])),
    "not a number": ({"bbox": [5, float("nan"), 20, 20]}, ("bbox", "[5, nan, 20, 20]")),
    "an unknown category": ({"category_id": 77}, ("category_id", 77)),
    "an unknown image": ({"image_id": 999}, ("image_id", 999)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_annotation_is_named(tmp_path, began, fault):
    change, parts = FAULTS[fault]
    data = coco()
    data["annotations"][6] |= change
    path = write_coco(tmp_path / "data", data)
    line = scripts.mistake(train(COCO, tmp_path))
    assert line.startswith(str(path))
    check_names(line.removeprefix(str(path)), 7, *parts)  # the annotation's id and the fault
    assert not began


def test_all_faults_are_reported_together_and_can_be_skipped(tmp_path, began):
    data = coco()
    for position, (change, _) in enumerate(FAULTS.values()):
        data["annotations"][position] |= change
    path = write_coco(tmp_path / "data", data)
    (tmp_path / "data/coco_mini/images/9.jpg").unlink()
    (tmp_path / "data/coco_mini/images/8.jpg").write_bytes(b"")
    done = train(COCO, tmp_path)
    assert done.code == 2
    lines = done.err.splitlines()
    assert len(lines) == len(FAULTS) + 2, done.err
    assert sum("9.jpg" in line for line in lines) == sum("8.jpg" in line for line in lines) == 1
    assert all(line.startswith(str(path.parents[1])) for line in lines), done.err
    assert not began
    with pytest.raises(RuntimeError, match="a model was made"):
        train(COCO, tmp_path, "--config.data.on_error=skip")


def test_data_whose_objects_cannot_be_learned_is_refused(tmp_path, began):
    data = coco()
    for annotation in data["annotations"]:
        annotation["iscrowd"] = 1
    write_coco(tmp_path / "data", data)
    scripts.mistake(train(COCO, tmp_path), "training", "crowds", "crowd='objects'")
    assert not began
    assert not (tmp_path / "run/splits.json").exists()
    with pytest.raises(RuntimeError, match="a model was made"):
        train(COCO, tmp_path, "--config.data.sources[0].crowd=objects")


def test_an_unknown_way_to_read_crowds_is_named(tmp_path, began):
    write_coco(tmp_path / "data", coco())
    done = train(COCO, tmp_path, "--config.data.sources[0].crowd=object")
    scripts.mistake(done, "crowd", "'object'", "ignore", "objects")
    assert not began


def test_one_image_under_two_ids_is_named(tmp_path, began):
    data = coco()
    data["images"].append({**data["images"][4], "id": 11})
    path = write_coco(tmp_path / "data", data)
    scripts.mistake(train(COCO, tmp_path), path, 11, "4.jpg", 4)
    assert not began


@pytest.mark.parametrize("text", ["", "{", json.dumps(coco())[:-300], "[]"])
def test_a_truncated_or_empty_file_is_one_line(tmp_path, began, text):
    path = write_coco(tmp_path / "data", text)
    scripts.mistake(train(COCO, tmp_path), path)
    assert not began


def write_faces(folder, names):
    for name in names:
        write_image(folder / "utkface" / name)


GOOD = [f"{20 + i}_0_2_201701091{i:08}.jpg.chip.jpg" for i in range(20)]


@pytest.mark.parametrize("bad", ["39_1_20170116174525125.jpg.chip.jpg", "x.jpg", "20_7_0_1.jpg"])
def test_an_invalid_name_among_few_faces_is_one_line(tmp_path, began, bad):
    write_faces(tmp_path / "data", [*GOOD, bad])
    folder = tmp_path / "data/utkface"
    line = scripts.mistake(train(UTKFACE, tmp_path), folder / bad)
    assert line.startswith(f"{folder}: ")
    check_names(line.replace(str(folder), "").replace("1%", ""), 1, 21)
    assert not began


def test_an_invalid_name_among_many_faces_is_logged_and_skipped(tmp_path, caplog):
    names = [f"{20 + i % 50}_0_2_201701091{i:08}.jpg.chip.jpg" for i in range(120)]
    bad = "39_1_20170116174525125.jpg.chip.jpg"
    write_faces(tmp_path / "data", [*names, bad])
    with pytest.raises(RuntimeError, match="a model was made"):
        train(UTKFACE, tmp_path)
    assert sum(bad in record.getMessage() for record in caplog.records) >= 1


@pytest.mark.parametrize(("config", "folder"), [(UTKFACE, "utkface"), (PRIMA, "prima_headpose")])
def test_a_missing_or_empty_folder_is_one_line(tmp_path, began, config, folder):
    line = scripts.mistake(train(config, tmp_path), tmp_path / "data", "config.data.path")
    assert "://" in line  # the source of the data set
    (tmp_path / "data" / folder).mkdir(parents=True)
    line = scripts.mistake(train(config, tmp_path))
    assert line.startswith(f"{tmp_path / 'data' / folder}: ")
    assert not began


ANCHORS = ("model.rpn.anchor_sizes", 5)
COUNTS = ("train.batch_size", "log_every", "seed")
OPTIONS = {  # an invalid option, and parts of the message
    "model.backbone.depth=51": ("model.backbone.depth", 51, 18, 34, 50, 101),
    "model.backbone.norm=bach": ("model.backbone.norm", "'bach'", "frozen"),
    "model.attribute_head.norm=bach": ("model.attribute_head.norm", "'bach'", "frozen"),
    "model.mask_head.kind=wide": ("config.model.mask_head.kind",),
    "model.dtype=float31": ("model.dtype", "'float31'", "float32", "bfloat16"),
    "model.rpn.anchor_sizes=((16.0,),)": ANCHORS,
    "model.rpn.anchor_sizes=((16.0,),(32.0,64.0),(64.0,),(128.0,),(256.0,))": ANCHORS,
    "model.rpn.box_weights=(1.0,1.0)": ("model.rpn.box_weights", (1.0, 1.0)),
    "model.rpn.smooth_l1_beta=-1": ("model.rpn.smooth_l1_beta", -1.0),
    "model.size_divisible=16": ("model.size_divisible", 16, 32),
    "train.accumulate=7": ("train.accumulate", 7),
    "model.pixel_std=(0.2,0.2)": ("config.model.pixel_std", 2, "config.data.channels", 3),
    "data.channels=1": ("config.model.pixel_mean", 3, "config.data.channels", 1),
    "data.resize.mode=sqare": ("data.resize.mode", "'sqare'", "shorter", "square"),
    "data.augment.flip=2": ("data.augment.flip", 2.0),
    "data.augment.scale=(2,1)": ("data.augment.scale", (2, 1)),
    "data.levels=(400,400)": ("config.data.levels", (400, 400), 65535),
    "data.levels=(0,70000)": ("config.data.levels", (0, 70000), 65535),
    "data.max_instances=0": ("config.data.max_instances", 0, 1),
    "data.on_error=stopp": ("data.on_error", "'stopp'", "stop", "skip"),
    "data.sources=('coco',)": ("config.data.sources[0]", "'coco'"),
    "data.sources[0].split=trian": ("config.data", "split", "'trian'", "train", "val", "test"),
    "data.format=cocoo": ("config.data", "format", "'cocoo'", "coco"),
    "optimizer.name=adma": ("optimizer.name", "'adma'", "sgd", "adamw"),
    "optimizer.schedule=cosin": ("optimizer.schedule", "'cosin'", "steps", "cosine"),
    "optimizer.learning_rate=-1": ("optimizer.learning_rate", -1.0),
    "optimizer.clip_norm=-1.0": ("config.optimizer.clip_norm", -1.0, 0),
    "optimizer.milestones=(0.0,)": ("optimizer.milestones", (0.0,)),
    "train.batch_size=0": ("config.train.batch_size", 0, 1),
    "train.log_every=0": ("config.train.log_every", 0, 1),
    "train.seed=-1": ("config.train.seed", -1, 0),
    "train.eval_every=-1": ("config.train.eval_every", -1, 0),
    "eval.batch_size=0": ("eval.batch_size", 0),
    "eval.images=-1": ("eval.images", -1),
    "eval.best_metric=box/AP51": ("config.eval.best_metric", "'box/AP51'", "box/AP"),
    "stages=5": ("config.stages", 5),
    "stages=()": ("config.stages",),
    "stages[0].steps=0": ("config.stages.stage1.steps", 0),
    "stages=({'layers':'all','steps':'100'},)": ("config.stages.stage1.steps", "'100'"),
    "stages=({'layers':'all','steps':100.0},)": ("config.stages.stage1.steps", 100.0),
    "stages=({'layers':3},)": ("config.stages.stage1.layers", 3),
    "stages[0].learning_rate=-1": ("config.stages.stage1.learning_rate", -1.0),
}


@pytest.mark.parametrize("option", OPTIONS)
def test_an_invalid_option_is_one_line(tmp_path, began, option):
    done = train(str(scripts.ROOT / "configs/shapes.py:tiny"), tmp_path, f"--config.{option}")
    scripts.mistake(done, *OPTIONS[option])
    assert not began
    assert not list(tmp_path.rglob("splits.json"))  # it would apply to the corrected config
