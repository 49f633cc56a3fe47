"""Data that the run of somebody else names: code, paths and links that lead out are refused."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from mistakes import refused

from mtl_jax.config.options.data import SourceOptions
from mtl_jax.data.datasets.access import check_path
from mtl_jax.data.datasets.sources import open_external, open_sources

CODE = "from pathlib import Path\nPath({!r}).touch()\n"


def write_coco(folder: Path, images: str = "images") -> Path:
    (folder / images).mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / images / "a.png"), np.zeros((40, 50, 3), np.uint8))
    image = {"id": 1, "file_name": "a.png", "width": 50, "height": 40}
    content = {"images": [image], "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
    (folder / "x.json").write_text(json.dumps(content))
    return folder


def open_block(named=(), **block):
    """Open a block of a run of somebody else, in which the user named the paths `named`."""
    options = SourceOptions(sources=({"split": "test", **block},), named=frozenset(named))
    return open_sources(options, ())["test"].sources[0]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Return a folder beside the current folder and the data root."""
    for name in ("here", "root", "mine"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("MTL_JAX_DATA", str(tmp_path / "root"))
    return tmp_path / "mine"


def test_a_python_file_is_not_run(place):
    path = Path("cells.py")
    path.write_text(CODE.format(str(place / "ran")))
    with refused("cells.py", "--trust"):
        open_block(format="python", path="cells.py")
    assert not (place / "ran").exists()
    with refused("cells.py", "open_source"):  # the user's own file, which has no source
        open_block(["cells.py"], format="python", path="cells.py")
    assert (place / "ran").exists()


@pytest.mark.parametrize(
    "block",
    [
        dict(path="prepared/1.0.0:train"),
        dict(path="huggingface:cats:train"),
        dict(path="coco/data_dir=elsewhere:train"),
        dict(path="coco/2017,data_dir=elsewhere:train"),
        dict(path="coco/2017:train", data_dir="elsewhere"),
        dict(path="coco/2017:train", data_dir="elsewhere", named=["coco/2017:train"]),
    ],
)
@pytest.mark.parametrize("kind", ["tfds", "tfds_faces"])
def test_modules_that_a_prepared_data_set_names_are_not_imported(place, kind, block):
    Path("prepared/1.0.0").mkdir(parents=True)
    with refused("--trust", block["path"]):
        open_block(format=kind, **block)


def test_a_data_set_of_the_catalogue_is_allowed(place):
    with refused("coco/2017", "download_and_prepare") as caught:
        open_block(format="tfds", path="coco/2017:train")
    assert "--trust" not in str(caught.value)


def test_data_below_the_current_folder_and_the_data_root_is_opened(place):
    for folder in (Path("theirs"), place.parent / "root/theirs"):
        write_coco(folder)
        assert len(open_block(format="coco", path=str(folder))) == 1
        assert len(open_block(format="coco", path="theirs", images="images")) == 1
        assert len(open_block(format="coco", path=str(folder / "x.json"))) == 1


def test_other_paths_are_refused_unless_the_user_named_them(place):
    write_coco(place)
    climbing = "../mine"
    for path in (str(place), climbing, str(place / "x.json"), "../here/../mine"):
        with refused(path, "--trust"):
            open_block(format="coco", path=path)
        assert len(open_block([path], format="coco", path=path)) == 1
    Path("link").symlink_to(place)
    with refused("link", "--trust"):
        open_block(format="coco", path="link")


def test_the_user_s_own_data_root_may_contain_links(place):
    (place.parent / "root/coco").symlink_to(write_coco(place))
    assert len(open_block(format="coco")) == 1
    assert len(open_block(format="coco", images="images", annotations="x.json")) == 1
    with refused("--trust"):  # not through the link
        open_block(format="coco", path="coco/../mine")


@pytest.mark.parametrize("key", ["annotations", "images"])
def test_files_of_a_block_outside_are_refused(place, key):
    write_coco(Path("theirs"))
    write_coco(place)
    value = str(place / "x.json") if key == "annotations" else "../../mine/images"
    with refused(key, "--trust"):
        open_block(format="coco", path="theirs", **{key: value})
    assert len(open_block([value], format="coco", path="theirs", **{key: value})) == 1
    with refused("image_set", "--trust"):
        open_block(format="voc", path="theirs", image_set="../../../mine/list")


@pytest.mark.parametrize("link", ["images/a.png", "images", "masks/a.png", "x.json"])
@pytest.mark.parametrize("below", ["here", "root"])
def test_links_that_lead_out_are_refused(place, link, below):
    folder = write_coco(place.parent / below / "theirs")
    (folder / "masks").mkdir()
    (folder / "masks/a.png").touch()
    (folder / link).rename(place / Path(link).name)
    (folder / link).symlink_to(place / Path(link).name)
    with refused(f"theirs/{link}", "--trust"):
        open_block(format="coco", path="theirs")
    assert len(open_block([str(folder)], format="coco", path=str(folder))) == 1
    (folder / link).unlink()
    (place / Path(link).name).rename(folder / f"{link} moved")
    (folder / link).symlink_to(folder / f"{link} moved")
    assert len(open_block(format="coco", path="theirs")) == 1


def test_links_that_lead_out_of_a_folder_of_images_beside_the_data_are_refused(place):
    write_coco(Path("theirs"))
    Path("images").mkdir()
    Path("images/a.png").symlink_to(write_coco(place) / "images/a.png")
    with refused("images/a.png", "--trust"):
        open_block(format="coco", path="theirs", images="../images")


def test_a_loop_of_links_is_no_exception(place):
    (write_coco(Path("theirs")) / "loop").symlink_to("loop")
    assert len(open_block(format="coco", path="theirs")) == 1


def test_data_that_the_user_named_contains_links(place):
    write_coco(place.parent / "root/theirs")
    (write_coco(place) / "images/a.png").rename(place / "a.png")
    (place / "images/a.png").symlink_to(place / "a.png")
    own = place.parent / "own"
    own.mkdir()
    (own / "x.json").symlink_to(place / "x.json")
    (own / "images").symlink_to(place / "images")
    for block in (dict(), dict(images="images"), dict(annotations="x.json")):
        options = SourceOptions(sources=({"format": "coco", **block},), named=frozenset())
        assert len(open_external(own, options, ()).sources[0]) == 1
    block = {"format": "coco", "images": "../mine/images"}
    with refused("images", "--trust"):
        open_external(own, SourceOptions(sources=(block,), named=frozenset()), ())


def test_the_path_of_another_field_is_checked(place):
    check_path("config.x", "runs/a", frozenset())
    check_path("config.x", str(place), None)
    check_path("config.x", str(place), frozenset([str(place)]))
    with refused("config.x", place, "--trust"):
        check_path("config.x", str(place), frozenset())
