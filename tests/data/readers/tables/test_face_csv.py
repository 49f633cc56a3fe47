"""Faces in a table: reading, writing, wrong rows, and splits that keep the copies of a face
together.
"""

import logging
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from annotated import check_lines, labels_of
from mistakes import check_names, refused
from real_data import data_set

from mtl_jax.attributes import declarations as attribute_kinds
from mtl_jax.config.options.data import SourceOptions
from mtl_jax.data.__main__ import main
from mtl_jax.data.datasets import split_assignment
from mtl_jax.data.datasets.sources import open_sources
from mtl_jax.data.duplicates import near_duplicates
from mtl_jax.data.face_masks.fit import chip_frame
from mtl_jax.data.face_masks.render import draw_wearing, put_on
from mtl_jax.data.readers.faces.fairface import FairFaceSource
from mtl_jax.data.readers.faces.utkface import UTKFaceSource
from mtl_jax.data.readers.tables.face_csv import FaceCsvSource, write_face_csv
from mtl_jax.errors import AnnotationErrors

DECLARED = attribute_kinds.from_config(
    {
        "age": dict(kind="continuous", range=(0, 116)),
        "gender": dict(kind="categorical", classes=("male", "female")),
        "race": dict(kind="categorical", classes=("White", "Black", "Asian", "Indian", "Others")),
    }
)


def face(seed, side=48):
    """Return a gray image that is unlike those of other seeds."""
    coarse = np.random.default_rng(seed).uniform(30, 220, (14, 14)).astype(np.float32)
    return np.clip(cv2.resize(coarse, (side, side)), 0, 255).astype(np.uint8)


def pixels(image):
    return " ".join(map(str, image.ravel()))


def write(path, *rows):
    """Write a table with the columns of the original, the first of which has no name."""
    lines = [",age,ethnicity,gender,pixels", *(f"{i},{row}" for i, row in enumerate(rows))]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_rows_of_the_original_table_are_read(tmp_path):
    first, second = face(0), face(1)
    path = write(tmp_path / "new2.csv", f"1,2,0,{pixels(first)}", f"116,4,1.0,{pixels(second)}")
    source = FaceCsvSource(path, DECLARED)
    assert [source.key(i) for i in range(len(source))] == [2, 3]
    record = source[0]
    np.testing.assert_array_equal(record.image[..., 0], first)
    assert (record.height, record.width) == (48, 48)
    assert record.instances[0].box == (0, 0, 48, 48)
    labels = [labels_of(source[i].instances[0], DECLARED) for i in range(2)]
    assert labels[0] == {"age": 1, "gender": "male", "race": "Asian"}
    assert labels[1] == {"age": 116, "gender": "female", "race": "Others"}


def test_a_written_table_is_read_again(tmp_path):
    labels = [
        {"age": 30 + i, "gender": "female", "race": race}
        for i, race in enumerate(("White", "Indian"))
    ]
    color = np.stack([face(2), face(3), face(4)], -1)
    path = tmp_path / "faces.csv"
    assert write_face_csv(path, zip((face(5), color), labels, strict=True)) == 2
    source = FaceCsvSource(path, DECLARED)
    np.testing.assert_array_equal(source[0].image[..., 0], face(5))
    np.testing.assert_array_equal(source[1].image[..., 0], cv2.cvtColor(color, cv2.COLOR_RGB2GRAY))
    assert [labels_of(source[i].instances[0], DECLARED) for i in range(2)] == labels


def test_a_chip_with_an_impossible_age_is_left_out(tmp_path, capsys):
    folder, table = tmp_path / "chips", tmp_path / "faces.csv"
    folder.mkdir()
    old, young = (f"{age}_0_0_2017010900000000{age % 10}.png" for age in (130, 31))
    for name in (old, young):
        cv2.imwrite(str(folder / name), face(len(name) + int(name[0]), 96))
    assert main(["face-csv", "--input", str(folder), "--output", str(table)]) == 1
    check_names(capsys.readouterr().err, folder / old, "age")
    assert len(FaceCsvSource(table)) == 1


def test_a_folder_of_chips_becomes_a_table(tmp_path, capsys):
    folder, table = tmp_path / "chips", tmp_path / "faces.csv"
    folder.mkdir()
    names = ("30_1_3_20170109000000001.jpg.chip.png", "7_0_0_20170109000000002.png", "x.png")
    for name in names:
        cv2.imwrite(str(folder / name), face(len(name), 96))
    arguments = ["face-csv", "--input", str(folder), "--output", str(table)]
    assert main(arguments) == 1
    printed = capsys.readouterr()
    check_names(printed.err, folder / "x.png")
    check_lines(printed.out.splitlines(), table, (2, 1))
    source = FaceCsvSource(table, DECLARED)
    records = {
        labels_of(record.instances[0], DECLARED)["age"]: record
        for record in map(source.__getitem__, (0, 1))
    }
    labels = labels_of(records[30].instances[0], DECLARED)
    assert labels == {"age": 30, "gender": "female", "race": "Indian"}
    expected = cv2.resize(face(len(names[0]), 96), (48, 48), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(records[30].image[..., 0], expected)
    assert main([*arguments, "--side", "32"]) == 1
    assert FaceCsvSource(table)[0].image.shape == (32, 32, 1)
    cv2.imwrite(str(folder / names[1]), face(0, 96)[:50])
    assert main(arguments) == 1
    printed = capsys.readouterr()
    lines = [line for line in printed.err.splitlines() if names[1] in line]
    check_lines(lines, folder / names[1], (96, 50))
    check_lines(printed.out.splitlines()[-1:], table, (1, 2))
    before = table.read_bytes()
    cv2.imwrite(str(folder / names[0]), face(0, 96)[:50])
    with refused(2, folder / names[0], 96, 50):
        main(arguments)
    assert table.read_bytes() == before


BAD = {
    f"1,5,0,{pixels(face(0))}": ("ethnicity", 5, 0, 4),
    f"x,0,0,{pixels(face(0))}": ("age", "x", 0, 120),
    f"3,0,,{pixels(face(0))}": ("gender", "''", 0, 1),
    "3,0,0,1 2 3": ("pixels", 3),
    "3,0,0,": ("pixels", 0),
    "3,0,0": ("pixels", 0),
    "3,0,0,1 2 3 256": (0, 255),
    "3,0,0,1 2 3 a": ("pixels",),
}


def test_every_bad_row_is_listed(tmp_path):
    path = write(tmp_path / "faces.csv", *BAD, f"7,0,0,{pixels(face(0))}")
    with pytest.raises(AnnotationErrors) as error:
        FaceCsvSource(path)
    numbered = [(line, *named) for line, named in enumerate(BAD.values(), 2)]
    check_lines(error.value.faults, path, *numbered)
    source = FaceCsvSource(path, on_error="skip")
    assert len(source) == 1
    assert len(source.skipped) == len(BAD)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("age,gender,pixels\n", ("age", "ethnicity", "gender", "pixels")),
        ("age,ethnicity,gender,pixels\n", ()),
    ],
)
def test_a_table_without_columns_or_rows_is_one_line(tmp_path, text, named):
    path = tmp_path / "faces.csv"
    path.write_text(text)
    with refused(path, *named) as caught:
        FaceCsvSource(path)
    if named:  # the missing column comes before the list of all columns
        check_names(str(caught.value).partition(";")[0], "ethnicity")
    with refused(tmp_path / "absent.csv"):
        FaceCsvSource(tmp_path / "absent.csv")


def test_a_face_and_its_masked_copies_stay_together(tmp_path):
    rng = np.random.default_rng(0)
    rows, owner = [], []
    for i in range(12):
        bare = face(i)
        copies = [
            put_on(bare[..., None], chip_frame(48, 48), draw_wearing(rng)).image for _ in "ab"
        ]
        rows += [f"{20 + i},0,0,{pixels(image)}" for image in (bare, *copies)]
        owner += [i] * 3
    source = FaceCsvSource(write(tmp_path / "faces.csv", *rows))
    groups = [source.group(i) for i in range(len(source))]
    assert len(set(groups)) == 12
    for i in range(12):
        assert len({g for g, o in zip(groups, owner, strict=True) if o == i}) == 1
    block = dict(format="face_csv", path=str(tmp_path / "faces.csv"))
    opened = open_sources(SourceOptions(sources=(block,), fractions=(0.5, 0.25, 0.25)), DECLARED)
    sources = [part.sources[0] for part in opened.values()]
    ages = [
        {labels_of(source[i].instances[0], DECLARED)["age"] for i in range(len(source))}
        for source in sources
    ]
    assert sum(map(len, ages)) == 12


def test_the_upper_part_alone_is_compared_only_with_masks():
    one, other = face(0), face(1)
    other[:16] = one[:16]
    assert near_duplicates([one, other]) == [0, 1]
    assert near_duplicates([one, other], masked=True) == [0, 0]


def divide(*sources, fixed=""):
    """Assign sources to splits, the first entirely to `fixed`; return the split of each record."""
    blocks = [dict(name=f"source {i}", split="") for i in range(len(sources))]
    blocks[0]["split"] = fixed
    keys = [split_assignment.keys(source) for source in sources]
    found = split_assignment.divide(blocks, sources, keys, (0.6, 0.2, 0.2), seed=0)
    return [{i: split for split, at in each.items() for i in at} for each in found]


def count_separated(*sources):
    """Return how many faces, in the same order in all sources, are in more than one split."""
    found = divide(*sources)
    assert all(len(each) == len(found[0]) for each in found)
    return sum(len({each[i] for each in found}) > 1 for i in found[0])


def as_table(folder):
    assert main(["face-csv", "--input", str(folder), "--output", f"{folder}.csv"]) == 0
    return FaceCsvSource(Path(f"{folder}.csv"))


def drawn_chips(folder, count=60, start=0):
    folder.mkdir()
    for i in range(count):
        name = f"{20 + i % 50}_0_0_{20170109000000000 + start + i}.png"
        cv2.imwrite(str(folder / name), face(start + i, 96))
    return UTKFaceSource(folder)


def masked_copies(folder, output):
    """Write masked copies of a folder of faces; return their source, and that of their table."""
    assert main(["mask-faces", "--input", str(folder), "--output", str(output)]) == 0
    return UTKFaceSource(output / "images"), as_table(output / "images")


def test_no_split_separates_a_table_from_its_chips(tmp_path):
    folder = drawn_chips(tmp_path / "chips")
    table = as_table(tmp_path / "chips")
    masked, masked_table = masked_copies(tmp_path / "chips", tmp_path / "masked")
    assert count_separated(folder, table) == 0
    assert count_separated(table, masked_table) == 0
    assert count_separated(table, masked) == 0
    assert count_separated(masked_table, folder, table, masked) == 0
    others = drawn_chips(tmp_path / "others", start=1000)
    assert divide(others, folder, table)[0] == divide(others)[0]  # no face links them


def test_no_split_separates_a_table_from_its_real_chips(tmp_path):
    (tmp_path / "chips").mkdir()
    for path in sorted(data_set("utkface_crop_part1").iterdir())[::40]:
        (tmp_path / "chips" / path.name).symlink_to(path)
    folder, table = UTKFaceSource(tmp_path / "chips"), as_table(tmp_path / "chips")
    assert count_separated(folder, table) == 0
    masked, masked_table = masked_copies(tmp_path / "chips", tmp_path / "masked")
    assert count_separated(folder, masked) == 0  # by their names
    assert count_separated(table, masked_table) <= 0.01 * len(table)
    assert count_separated(folder, masked_table) <= 0.01 * len(table)


def test_faces_of_a_table_that_another_source_fixes_in_a_split_are_reported(tmp_path, caplog):
    folder = drawn_chips(tmp_path / "chips", 12)
    drawn_chips(tmp_path / "some", 5)
    table = as_table(tmp_path / "some")
    for first, second in ((folder, table), (table, folder)):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            found = divide(first, second, fixed="train")
        (message,) = caplog.messages
        check_names(message, "source 0", "train", 5)
        assert found[1] == divide(second)[0]


def test_without_a_table_sources_are_not_compared(tmp_path, monkeypatch):
    monkeypatch.setattr(split_assignment, "near_duplicates", None)
    chips, others = drawn_chips(tmp_path / "chips", 9), drawn_chips(tmp_path / "others", 9, 20)
    row = "chips/20_0_0_20170109000000000.png,20-29,Male,White"
    (tmp_path / "fairface.csv").write_text(f"file,age,gender,race\n{row}\n")
    divide(chips, others, FairFaceSource(tmp_path))
    divide(as_table(tmp_path / "chips"))
    with pytest.raises(TypeError):
        divide(as_table(tmp_path / "chips"), others)


def test_a_cell_of_millions_of_pixels_is_refused_while_it_is_read(tmp_path):
    path = tmp_path / "faces.csv"
    path.write_text("age,ethnicity,gender,pixels\n20,0,1," + "7 " * 20_000_000)
    start = time.process_time()
    with refused(path):
        FaceCsvSource(path)
    assert time.process_time() - start < 10
