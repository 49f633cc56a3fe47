"""Image files are found by names that differ from them, and never among several."""

import json
import unicodedata
from pathlib import Path

import pytest
from annotated import HEIGHT, WIDTH, faults, open_format, write_picture
from mistakes import check_faults, check_names

from mtl_jax.data.readers.format import Labels
from mtl_jax.data.readers.image_files import ImageFiles, Named, find_folder

COMPOSED = unicodedata.normalize("NFC", "Übung.png")
DECOMPOSED = unicodedata.normalize("NFD", "Übung.png")


def find(folder: Path, *names: str | Named):
    named = [name if isinstance(name, Named) else Named(name) for name in names]
    found, notes = ImageFiles(folder).find(named)
    return found, notes


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return folder


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("a.png", "a.png"),
        ("a.png", "./a.png"),
        ("s/a.png", "s\\a.png"),
        ("a.png", "images\\a.png"),
        ("a.png", "images/a.png"),  # of a file beside images/
        ("a.png", "..\\..\\media\\upload\\4\\a.png"),
        ("a.png", "../../etc/a.png"),
        ("a.png", "/home/me/a.png"),
        ("a.png", "C:\\Users\\me\\a.png"),
        ("s/a.png", "a.png"),
        ("s/t/a.png", "t/a.png"),
        ("a.png", "a.PNG"),
        ("S/A.png", "s/a.png"),
        (DECOMPOSED, COMPOSED),
        (COMPOSED, DECOMPOSED),
        ("a.png", "a"),
        ("a.png", "a.jpg"),
        ("s/a.png", "a.jpeg"),
        ("scan.001.png", "scan.001"),
        ("a.png", Named("old.png", stem="a")),
        ("s/a.png", Named("D:/check/a.png", near="s")),
        ("s/a.png", Named("../old/a.png", near="s", stem="a")),
        ("s/a.png", Named("old/a.png", near="s", stem="a")),
    ],
)
def test_a_file_is_found(tmp_path, file, name):
    found, notes = find(touch(tmp_path, file), name)
    assert found == [(file, "", False)]
    first = name if isinstance(name, str) else name.name
    if file != first.removeprefix("./"):
        check_faults(notes, (tmp_path, "1 of 1", repr(first), file))
    else:
        assert notes == ()


@pytest.mark.parametrize(
    ("files", "name", "named"),
    [
        (("a.png", "a.jpg"), "a", ("a.png", "a.jpg")),
        (("A.png", "a.png"), "a.PNG", ("A.png", "a.png")),
        (("s/a.png", "t/a.png"), "a.png", ("s/a.png", "t/a.png")),
    ],
)
def test_a_file_is_never_chosen_among_several(tmp_path, files, name, named):
    (file,), notes = find(touch(tmp_path, *files), name)
    assert (file.path, file.is_missing, notes) == ("", False, ())
    check_names(file.fault, 2, *named)


def test_the_nearest_of_several_files_is_found(tmp_path):
    touch(tmp_path, "a.png", "s/a.png", "t/a.png", "t/4/b.png", "t/5/b.png", "c.png", "c/c.png")
    named = (Named("x/a.png", near="s"), "D:\\upload\\4\\b.png", "C.PNG")
    assert [file.path for file in find(tmp_path, *named)[0]] == ["s/a.png", "t/4/b.png", "c.png"]


@pytest.mark.parametrize(
    "name",
    ["train/a.png", "b.png", "scan.002", "http://x.org/a.png", "", "..", "/", "a/", "\0", "\ud800"],
)
def test_other_files_are_not_found(tmp_path, name):
    touch(tmp_path, "val/a.png", "scan.png", "scan.001.png", ".hidden.png")
    (file,), _ = find(tmp_path, name)
    if name != "a/":  # its last part is the stem of a.png
        assert (file.path, file.is_missing) == ("", True)


def test_files_outside_the_folder_are_never_found(tmp_path):
    touch(tmp_path, "secret.png", "images/a.png")
    outside = str((tmp_path / "secret.png").absolute())
    names = ("../secret.png", outside, "x/../../secret.png", "..\\secret.png")
    found, _ = find(tmp_path / "images", *names)
    assert [file.path for file in found] == [""] * 4
    inside = str((tmp_path / "images/a.png").absolute())
    assert find(tmp_path / "images", inside) == ([("a.png", "", False)], ())


def test_two_names_are_not_one_file(tmp_path):
    touch(tmp_path, "a.png", "b.png")
    found, _ = find(tmp_path, "s/a.png", "t/a.png", "b.png", "t/b.png")
    assert [file.path for file in found] == ["", "", "b.png", ""]
    check_names(found[0].fault, "'s/a.png'", "'t/a.png'", "a.png")


def test_the_nearest_name_is_suggested(tmp_path):
    (file,), _ = find(touch(tmp_path, "street_0001.png", "x.png"), "street_001.png")
    check_names(file.fault, tmp_path, "street_0001.png")


def test_each_way_is_noted_once(tmp_path):
    touch(tmp_path, *(f"{i}.png" for i in range(40)))
    _, notes = find(tmp_path, *(str(i) for i in range(40)))
    check_faults(notes, ("40 of 40", "'0'", "0.png"))


def write_coco(folder: Path, names: list[str], where: str = "annotations.json") -> None:
    side = {"width": WIDTH, "height": HEIGHT}
    images = [{"id": i, "file_name": name, **side} for i, name in enumerate(names)]
    boxes = [
        {"id": i, "image_id": i, "category_id": 1, "bbox": [i, 2, 9, 9]} for i in range(len(names))
    ]
    data = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cat"}]}
    (folder / where).parent.mkdir(parents=True, exist_ok=True)
    (folder / where).write_text(json.dumps(data))


@pytest.mark.parametrize("prefix", ["", "images/", "images\\", "..\\media\\", "/home/me/"])
def test_images_of_coco(tmp_path, prefix):
    for name in ("a.png", "b.png"):
        write_picture(tmp_path / "images" / name)
    write_coco(tmp_path, [f"{prefix}a.png", f"{prefix}b.png"], "result.json")
    source = open_format("coco", tmp_path)
    assert [source[i].file_name for i in range(2)] == ["a.png", "b.png"]
    assert all(source[i].image.is_file() for i in range(2))
    assert [source.key(i) for i in range(2)] == [0, 1]
    assert len(source.notes) == bool(prefix)


def test_the_advice_for_images_in_another_folder_works(tmp_path):
    for name in ("a.png", "b.png"):
        write_picture(tmp_path / "frames" / "s" / name)
    (tmp_path / "images").mkdir()
    write_coco(tmp_path, ["s/a.png", "s/b.png"])
    (line,) = faults("coco", tmp_path)
    advised = line.partition("config.data.images to ")[2].partition(",")[0]
    assert Path(advised) == tmp_path / "frames"
    assert len(open_format("coco", tmp_path, images=advised)) == 2


def test_one_image_under_two_ids_is_refused(tmp_path):
    write_picture(tmp_path / "a.png")
    write_picture(tmp_path / "b.png")
    write_coco(tmp_path, ["a.png", "b.png", "a.png"])
    check_faults(faults("coco", tmp_path), (tmp_path / "annotations.json", 2, "a.png", 0))
    source = open_format("coco", tmp_path, Labels(on_error="skip"))
    assert [source.key(i) for i in range(len(source))] == [0, 1]
    assert source[0].dropped == (1,)  # the object of the second record


def write_voc(folder: Path, xml: str, filename: str) -> None:
    box = "<bndbox><xmin>3</xmin><ymin>3</ymin><xmax>20</xmax><ymax>20</ymax></bndbox>"
    path = folder / "Annotations" / xml
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"<annotation><filename>{filename}</filename><size><width>{WIDTH}</width><height>{HEIGHT}"
        f"</height></size><object><name>cat</name>{box}</object></annotation>"
    )


@pytest.mark.parametrize("filename", ["{}", "{}.jpg", "C:\\me\\{}.png", "{}.PNG", "photo.png"])
@pytest.mark.parametrize("below", ["", "n0/"])
def test_images_of_voc(tmp_path, filename, below):
    for i in range(4):
        write_picture(tmp_path / f"JPEGImages/{below}n_{i}.png")
        suffix = ".XML" if i % 2 else ".xml"
        write_voc(tmp_path, f"{below}n_{i}{suffix}", filename.format(f"n_{i}"))
    source = open_format("voc", tmp_path)
    assert sorted(source[i].file_name for i in range(4)) == [f"{below}n_{i}.png" for i in range(4)]


def test_images_of_voc_in_folders_of_equal_names(tmp_path):
    for below in "st":
        write_picture(tmp_path / f"JPEGImages/{below}/1.png")
        write_voc(tmp_path, f"{below}/1.xml", "1.png")
    source = open_format("voc", tmp_path)
    assert [source[i].file_name for i in range(2)] == ["s/1.png", "t/1.png"]


def write_labelme(path: Path, image: str, **more) -> None:
    shape = dict(label="cat", shape_type="rectangle", points=[[40, 60], [10, 20]])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps(
            dict(shapes=[shape], imagePath=image, imageHeight=HEIGHT, imageWidth=WIDTH, **more)
        )
    )


@pytest.mark.parametrize(
    ("below", "image"),
    [
        ("", "D:/check/{}.png"),
        ("s", "D:\\check\\{}.png"),
        ("s", "..\\old\\{}.png"),
        ("s", "old/{}.png"),
        ("", "{}.PNG"),
        ("s", "renamed.png"),
    ],
)
def test_images_of_labelme(tmp_path, below, image):
    for name in "ab":
        write_picture(tmp_path / below / f"{name}.png")
        write_labelme(tmp_path / below / f"{name}.json", image.format(name))
    source = open_format("labelme", tmp_path)
    assert all(source[i].image == tmp_path / below / f"{n}.png" for i, n in enumerate("ab"))


def test_images_of_labelme_beside_the_folder_of_annotations(tmp_path):
    write_picture(tmp_path / "images/a.png")
    write_labelme(tmp_path / "labels/a.json", "..\\images\\a.png")
    assert open_format("labelme", tmp_path / "labels")[0].image == tmp_path / "images/a.png"


def test_an_image_that_only_labelmes_file_contains_is_named(tmp_path):
    write_labelme(tmp_path / "a.json", "a.png", imageData="aGVsbG8=")
    check_faults(faults("labelme", tmp_path), (tmp_path, "a.json", "imageData", "a.png"))


def test_images_of_via(tmp_path):
    write_picture(tmp_path / "images/a.png")
    circle = {"shape_attributes": {"name": "circle", "cx": 2, "cy": 50, "r": 9}}
    project = {"a": {"filename": "images\\a.PNG", "regions": [circle]}}
    (tmp_path / "via.json").write_text(json.dumps(project))
    record = open_format("via", tmp_path)[0]
    assert record.file_name == "a.png"
    assert record.instances[0].box[0] == 0  # clipped to the image, whose size is read


def test_images_of_fairface(tmp_path):
    write_picture(tmp_path / "train/1.jpg")
    table = "file,age,gender,race\ntrain\\1.JPG,20-29,Male,White\n"
    (tmp_path / "fairface.csv").write_text(table)
    source = open_format("fairface", tmp_path)
    assert source.key(0) == "train/1.jpg"
    check_faults(source.notes, ("1 of 1", "train/1.jpg"))


@pytest.mark.parametrize("name", ["/", ".", "a/.."])
def test_a_name_without_a_file_is_in_no_folder(tmp_path, name):
    touch(tmp_path, "a.png")
    assert find_folder(name, tmp_path) is None
