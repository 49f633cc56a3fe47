"""Images that annotation files name: no reader follows a name that leads out of its folder."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from annotated import HEIGHT, WIDTH, open_format, write_picture
from data.readers.faces import test_aflw as aflw
from data.readers.faces import test_youtube_faces as youtube_faces
from mistakes import refused

from mtl_jax.data.readers.image_paths import inside


@pytest.mark.parametrize(
    ("name", "below"),
    [("a.png", "a.png"), ("b/./a.png", "b/a.png"), ("b/../a.png", "a.png"), ("..a/a.png",) * 2],
)
def test_a_name_below_the_folder_is_a_path(tmp_path, name, below):
    assert inside(tmp_path, name) == tmp_path / below


@pytest.mark.parametrize("name", ["/a.png", "//a.png", "../a.png", "b/../../a.png", ".."])
def test_a_name_that_leads_out_is_refused(tmp_path, name):
    with refused(tmp_path, error=ValueError):
        inside(tmp_path, name)


def write_coco(folder: Path, name: str) -> None:
    """Write a file of two images, of which the first has no size."""
    images = [
        {"id": 1, "file_name": name},
        {"id": 2, "file_name": "a.png", "width": WIDTH, "height": HEIGHT},
    ]
    points = ["nose", "left_eye", "right_eye", "left_ear", "right_ear"]
    categories = [{"id": 1, "name": "person", "keypoints": points}]
    content = {"images": images, "annotations": [], "categories": categories}
    (folder / "coco.json").write_text(json.dumps(content))


def write_via(folder: Path, name: str) -> None:
    images = {each: dict(filename=each, regions=[]) for each in (name, "a.png")}
    (folder / "via.json").write_text(json.dumps(images))


def write_labelme(folder: Path, name: str) -> None:
    shape = dict(label="cat", points=[[1, 1], [9, 1], [9, 9]])
    for i, each in enumerate((name, "a.png")):
        (folder / f"{i}.json").write_text(json.dumps(dict(imagePath=each, shapes=[shape])))


def write_voc(folder: Path, name: str) -> None:
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    cat = f"<object><name>cat</name>{box}</object>"
    for i, each in enumerate((name, "a.png")):
        text = f"<annotation><filename>{each}</filename>{cat}</annotation>"
        (folder / f"{i}.xml").write_text(text)


def write_fairface(folder: Path, name: str) -> None:
    rows = ["file,age,gender,race", *(f"{each},3-9,Male,White" for each in (name, "a.png"))]
    (folder / "fairface.csv").write_text("\n".join(rows))


def write_youtube_faces(folder: Path, name: str) -> None:
    rows = [youtube_faces.row(each) for each in (name, "a.png")]
    (folder / "table.csv").write_text("\n".join([youtube_faces.HEAD, *rows]))


def write_aflw(folder: Path, name: str) -> None:
    aflw.write(folder, [dict(aflw.FACE, picture=each) for each in ("0/image00002.jpg", name)])


FORMATS: dict[str, Callable[[Path, str], None]] = {
    "coco": write_coco,
    "coco_faces": write_coco,
    "via": write_via,
    "labelme": write_labelme,
    "voc": write_voc,
    "fairface": write_fairface,
    "youtube_faces": write_youtube_faces,
    "aflw": write_aflw,
}


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("climbs", [False, True])
def test_no_reader_follows_a_name_that_leads_out(tmp_path, kind, climbs):
    private = tmp_path / "mine" / "image00009.jpg"
    write_picture(private)
    folder = tmp_path / "theirs"
    write_picture(folder / "a.png")
    up = "../../../mine" if kind == "aflw" else "../mine"  # its images lie in data/flickr
    FORMATS[kind](folder, f"{up}/{private.name}" if climbs else str(private))
    with refused(folder):
        open_format(kind, folder)
