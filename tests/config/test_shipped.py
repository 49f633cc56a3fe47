"""Tests of which file `--config` names, and of the template for a user's own data."""

import json
import os
import re
from pathlib import Path

import pytest
import scripts
from annotated import write_picture
from data.readers.annotation_tools import test_labelme, test_via, test_voc
from mistakes import refused

from mtl_jax.config.overrides import load_config_file
from mtl_jax.config.resolve import resolve
from mtl_jax.config.shipped import copy_template, find_config, shipped_folder
from mtl_jax.data.datasets.sources import open_sources

CONFIGS = scripts.ROOT / "configs"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MTL_JAX_DATA", raising=False)


def test_a_checkout_ships_its_configs():
    assert shipped_folder() == CONFIGS


@pytest.mark.parametrize("name", ["balloon", "balloon.py", "configs/balloon.py"])
def test_a_shipped_config_is_found_by_name_anywhere(name):
    assert find_config(name) == CONFIGS / "balloon.py"
    assert load_config_file(f"{name}:tiny").train.batch_size == 2
    assert load_config_file(f"{name}:pretrain").stages[0]["steps"] == 2000


def test_a_file_takes_precedence_over_a_shipped_config(tmp_path):
    text = (CONFIGS / "shapes.py").read_text()
    for name in ("balloon.py", "configs/balloon.py"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(text)
        assert find_config(name) == Path(name)
    Path("balloon").mkdir()  # a folder of data is no config
    assert find_config("balloon") == CONFIGS / "balloon.py"


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("baloon", ("balloon",)),
        ("xyzzy", ("balloon", "shapes")),  # all shipped configs
        ("mine/balloon.py", ("balloon",)),
        ("../configs/balloon.py", ()),
        ("balloon.txt", ()),
        (os.devnull, ()),
        (".", ()),
        ("", ()),
    ],
)
def test_no_other_name_means_a_shipped_config(name, parts):
    with refused(*parts) as caught:
        find_config(name)
    assert str(caught.value).startswith(f"{name}: ")


def test_a_config_that_begins_with_a_shipped_one_loads_anywhere():
    for name in ("biwi_pose", "hyperface_resnet", "hyperface_resnet:synthetic"):
        assert resolve(load_config_file(name)).stages


def template(tmp_path: Path, **changes: object) -> str:
    """Write the template with changed lines of its source."""
    path = copy_template("mine")
    assert path == Path("mine.py")
    text = path.read_text()
    for key, value in changes.items():
        text, count = re.subn(rf"(\n        {key})=.*?,  #", rf"\1={value!r},  #", text)
        assert count == 1
    path.write_text(text)
    return str(path)


def write_coco(folder: Path) -> None:
    write_picture(folder / "images/a.png")
    image = dict(id=1, file_name="a.png", width=100, height=80)
    annotation = dict(id=1, image_id=1, category_id=1, bbox=[10, 10, 20, 20], area=400, iscrowd=0)
    annotation["segmentation"] = [[10, 10, 30, 10, 30, 30, 10, 30]]
    data = dict(images=[image], annotations=[annotation], categories=[dict(id=1, name="cat")])
    (folder / "annotations.json").write_text(json.dumps(data))


def write_via(folder: Path) -> None:
    for name in "ab":
        write_picture(folder / f"images/{name}.png")
    (folder / "via.json").write_text(json.dumps(test_via.version_2({})))


def write_labelme(folder: Path) -> None:
    test_labelme.write(folder, test_labelme.SHAPES)


def write_voc(folder: Path) -> None:
    test_voc.write(folder, test_voc.xml_object())


WRITERS = {"coco": write_coco, "via": write_via, "labelme": write_labelme, "voc": write_voc}


@pytest.mark.parametrize("format_name", WRITERS)
def test_the_template_reads_a_format_after_three_lines_are_changed(format_name, tmp_path):
    folder = tmp_path / "my pictures"
    folder.mkdir()
    WRITERS[format_name](folder)
    config = template(tmp_path, format=format_name, path="my pictures", categories=("cat",))
    for variant in ("", ":small", ":tiny"):
        experiment = resolve(load_config_file(config + variant))
        opened = open_sources(experiment.sources, experiment.attributes)
        assert [category.name for category in opened["train"].categories] == ["cat"]
        records = [s[i] for split in opened.values() for s in split.sources for i in range(len(s))]
        assert any(record.instances for record in records)


def test_every_commented_line_of_the_template_is_valid(tmp_path):
    path = Path(template(tmp_path))
    text = re.sub(r"\n    # (config\.|    \"|\})", r"\n    \1", path.read_text())
    path.write_text(text)
    experiment = resolve(load_config_file(str(path)))
    kinds = {type(attribute).__name__ for attribute in experiment.attributes}
    assert kinds == {"Continuous", "Categorical", "Ordinal", "Pose", "Landmarks"}


def test_the_commands_in_a_copy_name_the_copy():
    Path("folder.v2").mkdir()
    head = copy_template("folder.v2/mine").read_text().partition("\nfrom ")[0]
    assert "--config folder.v2/mine.py" in head
    assert "--workdir runs/mine" in head
    assert "own_data" not in head


@pytest.mark.parametrize("name", ["mine", "mine.py"])
def test_a_copy_never_overwrites(name, tmp_path):
    Path("mine.py").write_text("mine")
    with refused("mine.py"):
        copy_template(name)
    assert Path("mine.py").read_text() == "mine"
    Path("mine.py").unlink()
    Path("mine.py").symlink_to("elsewhere.py")
    with refused("mine.py"):
        copy_template(name)
    assert not Path("elsewhere.py").exists()


@pytest.mark.parametrize("name", ["", "a:b", "balloon", "own_data.py", ".", "a/"])
def test_a_name_that_train_would_not_find_is_refused(name):
    with refused(repr(name)):
        copy_template(name)
    assert list(Path().iterdir()) == []
