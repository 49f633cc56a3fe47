"""VIA's versions, shapes and exports, and broken versions of each."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from annotated import HEIGHT, WIDTH, faults, labels_of, mask_of, open_format, write_picture
from mistakes import check_faults, check_names, refused
from real_data import data_set

from mtl_jax.attributes import declarations as attribute_kinds
from mtl_jax.data.readers.format import Labels

TRIANGLE = dict(name="polygon", all_points_x=[10, 50, 10], all_points_y=[10, 10, 50])
SHAPES = {
    "polygon": TRIANGLE,
    "polyline": {**TRIANGLE, "name": "polyline"},
    "rect": dict(name="rect", x=10, y=20, width=30, height=40),
    "circle": dict(name="circle", cx=50, cy=40, r=20),
    "ellipse": dict(name="ellipse", cx=50, cy=40, rx=30, ry=10, theta=0),
}
BOXES = {
    "polygon": (10, 10, 50, 50),
    "polyline": (10, 10, 50, 50),
    "rect": (10, 20, 40, 60),
    "circle": (30, 20, 70, 60),
    "ellipse": (20, 30, 80, 50),
}
AREAS = {"polygon": 800, "polyline": 800, "circle": np.pi * 400, "ellipse": np.pi * 300}
NUMBERS_3 = {
    "polygon": [7, 10, 10, 50, 10, 10, 50],
    "polyline": [6, 10, 10, 50, 10, 10, 50],
    "rect": [2, 10, 20, 30, 40],
    "circle": [3, 50, 40, 20],
    "ellipse": [4, 50, 40, 30, 10],
}
HEADER_3 = (
    "# CSV_HEADER = metadata_id,file_list,flags,temporal_coordinates,spatial_coordinates,metadata\n"
)


def version_1(labels):
    regions = {
        str(i): dict(shape_attributes=shape, region_attributes=labels)
        for i, shape in enumerate(SHAPES.values())
    }
    image = dict(filename="a.png", size=1, fileref="", base64_img_data="", file_attributes={})
    return {
        "a.png1": {**image, "regions": regions},
        "b.png1": {**image, "filename": "b.png", "regions": {}},
    }


def version_2(labels):
    found = version_1(labels)
    for image in found.values():
        image["regions"] = list(image["regions"].values())
    return found


def project_2(labels):
    return dict(
        _via_settings={},
        _via_img_metadata=version_2(labels),
        _via_attributes=dict(region={}, file={}),
        _via_data_format_version="2.0.10",
        _via_image_id_list=["a.png1", "b.png1"],
    )


def project_3(labels):
    attribute = {
        str(i): dict(aname=name, anchor_id="FILE1_Z0_XY1", type=3, options={"0": value})
        for i, (name, value) in enumerate(labels.items(), 1)
    }
    values = dict.fromkeys(attribute, "0")
    return dict(
        project=dict(pid="x", vid_list=["1", "2"]),
        attribute=attribute,
        file={
            "1": dict(fid="1", fname="a.png", type=2, loc=1, src="a.png"),
            "2": dict(fid="2", fname="b.png", type=2, loc=1, src="b.png"),
        },
        view={"1": dict(fid_list=["1"]), "2": dict(fid_list=["2"])},
        metadata={
            "1_whole": dict(vid="1", z=[], xy=[], av={}),
            **{
                f"1_{name}": dict(vid="1", flg=0, z=[], xy=xy, av=values)
                for name, xy in NUMBERS_3.items()
            },
        },
    )


def write_csv_2(path, labels):
    names = "filename,file_size,file_attributes,region_count,region_id,"
    names += "region_shape_attributes,region_attributes"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names.split(","))
        for i, shape in enumerate(SHAPES.values()):
            writer.writerow(["a.png", 1, "{}", 5, i, json.dumps(shape), json.dumps(labels)])
        writer.writerow(["b.png", 1, "{}", 0, 0, "{}", "{}"])


def write_csv_3(path, labels):
    project = project_3(labels)
    with path.open("w", newline="") as file:
        file.write("# Exported using VGG Image Annotator\n# Notes:\n")
        file.write(f"# ATTRIBUTE = {json.dumps(project['attribute'])}\n")
        file.write(HEADER_3)
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        for number, entry in project["metadata"].items():
            xy, av = json.dumps(entry["xy"]), json.dumps(entry["av"])
            writer.writerow([number, '["a.png"]', 0, "[]", xy, av])
        writer.writerow(["2_whole", '["b.png"]', 0, "[]", "[]", "{}"])


JSON = dict(version_1=version_1, version_2=version_2, project_2=project_2, project_3=project_3)
CSV = dict(csv_2=write_csv_2, csv_3=write_csv_3)
VERSIONS = [*JSON, *CSV]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_picture(tmp_path / "a.png")
    write_picture(tmp_path / "b.png")
    return tmp_path


def write(folder: Path, version: str, labels) -> None:
    if version in JSON:
        (folder / "via.json").write_text(json.dumps(JSON[version](labels)))
    else:
        CSV[version](folder / "via.csv", labels)


def write_regions(folder: Path, *regions) -> None:
    """Write version 2's file of one image with regions of (shape, labels)."""
    found = [dict(shape_attributes=shape, region_attributes=labels) for shape, labels in regions]
    (folder / "via.json").write_text(json.dumps({"a": dict(filename="a.png", regions=found)}))


@pytest.mark.parametrize("version", VERSIONS)
def test_every_shape_of_every_version_is_read(folder, version):
    write(folder, version, {"kind": "cat"})
    source = open_format("via", folder, class_attribute="kind")
    assert [category.name for category in source.categories] == ["cat"]
    assert [source[i].file_name for i in range(2)] == ["a.png", "b.png"]
    assert (source[0].height, source[0].width) == (HEIGHT, WIDTH)
    assert source[1].instances == ()
    for name, instance in zip(SHAPES, source[0].instances, strict=True):
        np.testing.assert_allclose(instance.box, BOXES[name], atol=0.2)
        if name == "rect":
            assert instance.segmentation is None
        else:
            assert abs(mask_of(instance).sum() / AREAS[name] - 1) < 0.06


@pytest.mark.parametrize("version", VERSIONS)
def test_without_a_class_attribute_all_are_one_class(folder, version):
    write(folder, version, {"age": "34", "sex": "male"})
    declared = attribute_kinds.from_config({"age": dict(kind="continuous", range=(0, 100))})
    source = open_format("via", folder, Labels(declared), categories=("person",))
    assert [category.name for category in source.categories] == ["person"]
    assert all(labels_of(instance, declared) == {"age": 34} for instance in source[0].instances)
    (line,) = source.undeclared
    check_names(line.partition(": ")[2], "sex", 5, 1, "male")


def test_labels_of_other_attributes_are_reported_with_the_lines_that_declare_them(folder):
    write_regions(
        folder,
        (TRIANGLE, {"age": "3.5", "sex": "male", "hat": {"yes": True, "no": False}}),
        (TRIANGLE, {"age": "60", "sex": "female", "hat": ""}),
        (TRIANGLE, {"age": "", "sex": "male", "hat": {"no": True}}),
    )
    age, hat, sex = open_format("via", folder).undeclared
    expected = {
        age: """config.attributes["age"] = dict(kind='continuous', range=(3, 60))""",
        hat: """config.attributes["hat"] = dict(kind='categorical', classes=('no', 'yes'))""",
        sex: """config.attributes["sex"] = dict(kind='categorical', classes=('female', 'male'))""",
    }
    for line, text in expected.items():
        assert line.startswith(f"{folder / 'via.json'}: ")
        assert line.endswith(text)


def test_a_circle_is_clipped_to_the_image_and_a_polygon_outside_is_a_fault(folder):
    circle = dict(name="circle", cx=90, cy=40, r=30)
    write_regions(folder, (circle, {}), ({**TRIANGLE, "all_points_x": [10, 150, 10]}, {}))
    (line,) = faults("via", folder)
    check_names(line, folder / "via.json", "a.png", "regions[1]")
    check_names(line.partition("regions[1]")[2], 50, WIDTH, HEIGHT)
    source = open_format("via", folder, Labels(on_error="skip"))
    assert source.skipped == (line,)
    np.testing.assert_allclose(source[0].instances[0].box, (60, 10, 100, 70), atol=0.2)


def test_an_ellipse_is_rotated_clockwise(folder):
    shape = dict(name="ellipse", cx=50, cy=40, rx=30, ry=5, theta=np.pi / 4)
    write_regions(folder, (shape, {}))
    mask = mask_of(open_format("via", folder)[0].instances[0])
    assert [mask[y, x] for y, x in ((60, 70), (20, 30), (20, 70), (60, 30))] == [1, 1, 0, 0]


BROKEN = {  # a shape, and what the message names beside its region
    "a point": (dict(name="point", cx=1, cy=2), ["point"]),
    "a line of two": ({**TRIANGLE, "all_points_x": [1, 2], "all_points_y": [1, 2]}, [4]),
    "uneven": ({**TRIANGLE, "all_points_x": [1, 2]}, ["polygon"]),
    "text": ({**TRIANGLE, "all_points_x": [1, "2", 3]}, ["'2'"]),
    "no radius": (dict(name="circle", cx=1, cy=2), ["circle", "[1, 2, None]"]),
    "an empty circle": (dict(name="circle", cx=1, cy=2, r=0), ["circle", 0]),
    "an empty rect": (dict(name="rect", x=1, y=2, width=0, height=3), ["[1, 2, 0, 3]"]),
    "not finite": (dict(name="rect", x=float("nan"), y=2, width=9, height=3), ["rect", "nan"]),
    "a list": ([1, 2], ["shape_attributes"]),
    "nothing": ({}, [None]),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_region_is_one_line_that_names_it(folder, what):
    shape, parts = BROKEN[what]
    write_regions(folder, (TRIANGLE, {}), (shape, {}))
    (line,) = faults("via", folder)
    check_names(line, folder / "via.json", "a.png", "regions[1]")
    check_names(line.partition("regions[1]")[2], *parts)
    assert len(open_format("via", folder, Labels(on_error="skip"))[0].instances) == 1


def test_a_region_without_its_class_is_one_line_that_names_it(folder):
    kinds = ({"kind": "cat"}, {"kind": ""}, {}, {"kind": {"cat": True, "dog": True}})
    write_regions(folder, *((TRIANGLE, labels) for labels in kinds))
    check_faults(
        faults("via", folder, class_attribute="kind"),
        (folder / "via.json", "a.png", "regions[1]", "kind"),
        (folder / "via.json", "a.png", "regions[2]", "kind"),
    )


FILES = {  # a text, and what the message names beside the file: the record and the fault
    "truncated": ('{"a": {"filename": "a.png", "regions": [', (1, 41)),
    "a list": ("[1]", ("list",)),
    "of texts": ('{"cats": "b"}', ("cats",)),
    "regions of text": ('{"a": {"filename": "a.png", "regions": "x"}}', ("regions", "a.png")),
    "a project of text": ('{"_via_img_metadata": 3}', ("_via_img_metadata",)),
    "version 3 of texts": ('{"project": {}, "metadata": {"a": 1}}', ("metadata",)),
    "version 3 without its file": (
        '{"project": {}, "metadata": {"1_rect": {"xy": [2, 1, 1, 5, 5]}}}',
        ("metadata", "1_rect"),
    ),
    "no name": ('{"cats": {"regions": []}}', ("cats", None)),
    "an address": (
        '{"cats": {"filename": "http://x/a.png", "regions": []}}',
        ("cats", "http://x/a.png"),
    ),
    "a missing image": ('{"a": {"filename": "c.png"}, "b": {"filename": "b.png"}}', ("c.png",)),
    "an image twice": ('{"a": {"filename": "a.png"}, "b": {"filename": "a.png"}}', ("a.png",)),
}


@pytest.mark.parametrize("what", FILES)
def test_a_broken_file_is_one_line_that_names_it(folder, what):
    text, parts = FILES[what]
    path = folder / "via.json"
    path.write_text(text)
    (line,) = faults("via", folder)
    assert line.startswith(f"{path}: ")
    check_names(line.removeprefix(f"{path}: "), *parts)


TABLES = {  # a text, and what the message names beside its line 2
    "no header": ("a,b\n1,2\n", ["filename"]),
    "broken cell": ("filename,region_shape_attributes,region_attributes\na.png,{,{}\n", ["{"]),
    "a short line": (
        "filename,region_shape_attributes,region_attributes\na.png\n",
        ["region_shape_attributes", "region_attributes"],
    ),
    "version 3, two files": (
        HEADER_3 + '1,"[""a.png"",""b.png""]",0,[],[],{}\n',
        ["a.png", "b.png"],
    ),
}


@pytest.mark.parametrize("what", TABLES)
def test_a_broken_table_is_one_line_that_names_it(folder, what):
    text, parts = TABLES[what]
    path = folder / "via.csv"
    path.write_text(text)
    (line,) = faults("via", folder)
    assert line.startswith(f"{path}: ")
    check_names(line.removeprefix(f"{path}: "), 2, *parts)


def test_a_video_is_one_line_that_names_it(folder):
    project = project_3({})
    project["file"]["2"]["type"] = 4
    path = folder / "via.json"
    path.write_text(json.dumps(project))
    (line,) = faults("via", folder)
    assert line.startswith(f"{path}: ")
    check_names(line.removeprefix(f"{path}: "), 2)  # the number of the file in the project


def test_several_classes_require_a_class_attribute(folder):
    write(folder, "version_2", {"kind": "cat"})
    with refused(folder / "via.json", "class_attribute", "categories", "cat", "dog"):
        open_format("via", folder, categories=("cat", "dog"))


def test_balloons_are_read():
    source = open_format("via", data_set("balloon"), categories=("balloon",))
    assert len(source) == 52
    instances = [instance for i in range(len(source)) for instance in source[i].instances]
    assert len(instances) == 215
    assert all(isinstance(instance.segmentation, list) for instance in instances)


UNHASHABLE = ([1], {"a": 1})


@pytest.mark.parametrize("value", UNHASHABLE)
def test_unhashable_values_are_faults_of_their_region(tmp_path, value):
    write_picture(tmp_path / "a.png")
    good = {"shape_attributes": {"name": "rect", "x": 1, "y": 2, "width": 3, "height": 4}}
    bad = {"shape_attributes": {"name": value}}
    content = {"a": {"filename": "a.png", "regions": [good, bad]}}
    (tmp_path / "a.json").write_text(json.dumps(content))
    check_faults(faults("via", tmp_path, categories=("cat",)), ("a.png", "regions[1]"))


@pytest.mark.parametrize("value", UNHASHABLE)
def test_unhashable_shapes_of_version_3_are_faults(tmp_path, value):
    write_picture(tmp_path / "a.png")
    content = {
        "project": {},
        "file": {"1": {"fname": "a.png"}},
        "view": {"1": {"fid_list": ["1"]}},
        "metadata": {
            "m0": {"vid": "1", "xy": [2, 1, 2, 3, 4], "av": {}},
            "m1": {"vid": "1", "xy": [value, 1, 2, 3, 4], "av": {}},
        },
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    check_faults(faults("via", tmp_path, categories=("cat",)), ("a.png", "m1"))


def test_a_circle_of_huge_whole_numbers_is_a_fault(tmp_path):
    write_picture(tmp_path / "a.png")
    shapes = [
        {"name": "circle", "cx": 10**300, "cy": 5, "r": 2},
        {"name": "ellipse", "cx": 5, "cy": 5, "rx": 10**308, "ry": 3, "theta": 1},
        {"name": "circle", "cx": 20, "cy": 20, "r": 5},
    ]
    regions = [{"shape_attributes": shape} for shape in shapes]
    (tmp_path / "a.json").write_text(json.dumps({"a": {"filename": "a.png", "regions": regions}}))
    found = faults("via", tmp_path, categories=("cat",))
    check_faults(found, ("a.png", "regions[0]"))  # the ellipse is clipped to the image
