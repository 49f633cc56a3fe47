"""Pascal VOC's boxes, and broken files."""

from pathlib import Path

import pytest
from annotated import HEIGHT, WIDTH, faults, labels_of, open_format, write_picture
from mistakes import check_names, refused

from mtl_jax.attributes import declarations as attribute_kinds
from mtl_jax.data.readers.format import Labels

BOX = dict(xmin="11", ymin="21", xmax="40", ymax="60")


def box(**changes) -> str:
    sides = {**BOX, **changes}
    return "".join(f"<{k}>{v}</{k}>" for k, v in sides.items() if v is not None)


def xml_object(name="cat", more="", **changes) -> str:
    named = f"<name>{name}</name>" if name else ""
    return f"<object>{named}{more}<bndbox>{box(**changes)}</bndbox></object>"


def write(folder: Path, *objects: str, name="a", size=True, filename=True) -> None:
    write_picture(folder / f"JPEGImages/{name}.png")
    sides = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"
    file = f"<filename>{name}.png</filename>" if filename else ""
    text = f"<annotation>{file}{sides if size else ''}{''.join(objects)}</annotation>"
    (folder / "Annotations").mkdir(exist_ok=True)
    (folder / f"Annotations/{name}.xml").write_text(text)


def test_pixels_are_counted_from_one_and_the_last_is_inside(tmp_path):
    write(tmp_path, xml_object(), xml_object("dog", xmin="1", ymin="1", xmax="100", ymax="80"))
    write(tmp_path, name="b", size=False)
    source = open_format("voc", tmp_path)
    assert [category.name for category in source.categories] == ["cat", "dog"]
    assert source[0].instances[0].box == (10, 20, 40, 60)
    assert source[0].instances[1].box == (0, 0, 100, 80)
    assert source[0].instances[0].segmentation is None
    assert (source[1].height, source[1].width, source[1].instances) == (HEIGHT, WIDTH, ())


def test_difficult_objects_are_crowds_and_other_fields_attributes(tmp_path):
    more = "<pose>Left</pose><truncated>1</truncated><difficult>1</difficult>"
    part = f"<part><name>head</name><bndbox>{box()}</bndbox></part>"
    write(tmp_path, xml_object(more=more + part), xml_object(more="<difficult>0</difficult>"))
    declared = attribute_kinds.from_config(
        {
            "pose": dict(kind="categorical", classes=("Left", "Right")),
            "truncated": dict(kind="categorical", classes=("no", "yes")),
        }
    )
    first, second = open_format("voc", tmp_path, Labels(declared))[0].instances
    assert (first.crowd, second.crowd) == (True, False)
    assert labels_of(first, declared) == {"pose": "Left", "truncated": "yes"}
    assert second.attributes == {}


def test_an_image_set_selects_its_images(tmp_path):
    for name in "abc":
        write(tmp_path, xml_object(), name=name)
    (tmp_path / "ImageSets/Main").mkdir(parents=True)
    (tmp_path / "ImageSets/Main/val.txt").write_text("\ufeffa\nc -1\n\n", "utf-8")
    source = open_format("voc", tmp_path, image_set="val")
    assert [source[i].file_name for i in range(len(source))] == ["a.png", "c.png"]
    (tmp_path / "ImageSets/Main/val.txt").write_text("a\nmy photo\n")
    with refused(tmp_path / "Annotations", "my photo.xml", "val.txt"):
        open_format("voc", tmp_path, image_set="val")
    with refused(tmp_path / "ImageSets/Main/test.txt"):
        open_format("voc", tmp_path, image_set="test")


def test_classes_can_be_selected(tmp_path):
    write(tmp_path, xml_object(), xml_object("dog"))
    assert len(open_format("voc", tmp_path, categories=("dog",))[0].instances) == 1
    with refused(tmp_path / "Annotations", "dogg", "dog"):
        open_format("voc", tmp_path, categories=("dogg",))


BROKEN = {  # an object, and what the message names beside its place
    "no class": (xml_object(""), ["name"]),
    "no side": (xml_object(xmax=None), ["bndbox", "xmax", None]),
    "a text": (xml_object(xmax="x"), ["bndbox", "xmax", "x"]),
    "not finite": (xml_object(xmax="nan"), ["nan"]),
    "swapped": (xml_object(xmax="5"), ["[10.0, 20.0, -5.0, 40.0]"]),
    "outside": (xml_object(xmax="137"), ["[10.0, 20.0, 127.0, 40.0]", 37, WIDTH, HEIGHT]),
    "no box": ("<object><name>cat</name></object>", ["bndbox", "xmin", None]),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_object_is_one_line_that_names_it(tmp_path, what):
    text, parts = BROKEN[what]
    write(tmp_path, xml_object(), text)
    (line,) = faults("voc", tmp_path)
    check_names(line, tmp_path / "Annotations", "a.xml", "object[1]")
    check_names(line.partition("object[1]")[2], *parts)
    assert len(open_format("voc", tmp_path, Labels(on_error="skip"))[0].instances) == 1


LAUGHS = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10))
FILES = {  # the text of b.xml, and what the message names
    "truncated": ("<annotation><object>", ["b.xml"]),
    "empty": ("", ["b.xml"]),
    "another XML": ("<svg/>", ["b.xml", "svg", "annotation"]),
    "a missing image": ("<annotation/>", ["b.jpg", "JPEGImages"]),
    "a billion laughs": (
        f'<!DOCTYPE x [<!ENTITY l0 "ha">{LAUGHS}]><annotation>&l9;</annotation>',
        ["b.xml"],
    ),
}


@pytest.mark.parametrize("what", FILES)
def test_a_broken_file_is_one_line_that_names_it(tmp_path, what):
    text, parts = FILES[what]
    write(tmp_path, xml_object())
    (tmp_path / "Annotations/b.xml").write_text(text)
    (line,) = faults("voc", tmp_path)
    assert line.startswith(f"{tmp_path / 'Annotations'}: ")
    check_names(line, *parts)


@pytest.mark.parametrize("encoding", ["hex", "klingon", "shift_jis", "utf-16", "idna"])
def test_an_encoding_that_cannot_be_read_is_a_fault(tmp_path, encoding):
    write(tmp_path, xml_object())
    text = f'<?xml version="1.0" encoding="{encoding}"?><annotation/>'
    (tmp_path / "Annotations/b.xml").write_text(text)
    (fault,) = faults("voc", tmp_path)
    check_names(fault, "b.xml")


def test_a_size_of_many_digits_is_read_from_the_image(tmp_path):
    write(tmp_path, xml_object())
    path = tmp_path / "Annotations/a.xml"
    path.write_text(path.read_text().replace(f"<width>{WIDTH}", f"<width>{'9' * 5000}"))
    assert open_format("voc", tmp_path)[0].width == WIDTH


def test_an_image_set_in_another_encoding_is_one_line(tmp_path):
    write(tmp_path, xml_object())
    (tmp_path / "ImageSets/Main").mkdir(parents=True)
    (tmp_path / "ImageSets/Main/val.txt").write_bytes(b"caf\xe9")
    with refused("val.txt", "UTF-8"):
        open_format("voc", tmp_path, image_set="val")
