"""Records from a Python file of the user's: opened, divided, batched, and every mistake told."""

import pickle
import re
from pathlib import Path

import numpy as np
import pytest

from mtl_jax import attributes as attribute_kinds
from mtl_jax.data import pipeline
from mtl_jax.data.options import DataOptions
from mtl_jax.data.records import Category
from mtl_jax.data.sources import SourceOptions, open_sources
from mtl_jax.errors import UserError
from mtl_jax.images import ResizeOptions

AGE = attribute_kinds.from_config({"age": {"kind": "continuous", "range": (0, 116)}})
SMALL = ResizeOptions(mode="stretch", canvases=((32, 32),))
CELLS = """
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mtl_jax.data.records import Category, Instance, Record


@dataclass
class Cells:
    count: int
    shade: int = 50
    categories: tuple = (Category(7, "cell"), Category(9, "yeast"))

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        pixels = np.full((40, 60, 3), self.shade + i, np.uint8)
        cell = Instance((4, 5, 24, 35), 1 + i % 2, attributes={"age": i})
        return Record(pixels, 60, 40, i, f"cell {i}", (cell,))


def open_source(count=6, shade=50):
    return Cells(count, shade)
"""
GROUPED = """
class Slides(Cells):
    def group(self, i):
        return f"slide {i // 10}"

    def key(self, i):
        return f"cell {i}"


def open_source(count=40):
    return Slides(count)
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "cells.py"
    path.write_text(text)
    return path


def open_file(path: Path, options: dict | None = None, **fields):
    block = {"format": "python", "path": str(path), "options": options or {}, **fields}
    return open_sources(SourceOptions(sources=(block,)), AGE, path.parent / "splits.json")


def first(path: Path):
    return open_file(path, split="train")["train"].sources[0][0]


def fault(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        first(path)
    return str(caught.value)


def test_records_are_those_of_the_files_source(tmp_path):
    path = write(tmp_path, CELLS)
    opened = open_file(path, {"shade": 90}, split="val", rename={"yeast": "fungus"})["val"]
    assert opened.categories == (Category(7, "cell"), Category(9, "fungus"))
    records = [opened.sources[0][i] for i in range(len(opened.sources[0]))]
    assert [record.image[0, 0, 0] for record in records] == [90, 91, 92, 93, 94, 95]
    assert [record.instances[0].label for record in records] == [1, 2] * 3
    assert [record.instances[0].attributes["age"] for record in records] == list(range(6))


def test_a_group_is_not_parted_and_a_key_stays(tmp_path):
    path = write(tmp_path, CELLS + GROUPED)
    names = {
        split: [record.file_name for source in opened.sources for record in source]
        for split, opened in open_file(path).items()
    }
    assert sum(map(len, names.values())) == 40
    assert all(len(of_split) % 10 == 0 for of_split in names.values())
    # The division names cells, not positions: one that comes before the others moves none.
    path.write_text(path.read_text().replace('f"cell {i}"', 'f"cell {i - 1}"'))
    again = open_file(path, {"count": 41})
    assert [r.file_name for r in again["train"].sources[0]] == names["train"]


@pytest.mark.parametrize("processes", [False, True])
def test_batches_are_made_of_it_by_threads_and_by_processes(tmp_path, processes):
    opened = open_file(write(tmp_path, CELLS), split="train")["train"]
    data = DataOptions(resize=SMALL, processes=processes)
    batches = pipeline.train_batches(
        opened.sources, opened.weights, AGE, data, batch_size=6, seed=0, start_step=0
    )
    batch = next(batches)
    order = np.argsort(batch.index)
    np.testing.assert_array_equal(batch.gt.attributes["age"].values[order, 0, 0], np.arange(6))


def test_a_source_is_pickled_by_its_file(tmp_path):
    source = open_file(write(tmp_path, CELLS), {"count": 3}, split="train")["train"].sources[0]
    again = pickle.loads(pickle.dumps(source))
    assert len(again) == 3
    np.testing.assert_array_equal(again[2].image, source[2].image)


BOX = "cells.py: record 0 has the box (50, 10, 20, 30); boxes are x1, y1, x2, y2 within"


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("def open_source", "def open_sauce", "cells.py: has no open_source()"),
        ("return Cells(count, shade)", "return [1, 2]", "cells.py: open_source() gives 'list'"),
        ("return Cells(count, shade)", "return Cell()", "line 27: name 'Cell' is not defined"),
        ("import numpy as np", "import numpi", "line 6: No module named 'numpi'"),
        ("self.shade + i", "self.shape + i", "line 21: 'Cells' object has no attribute 'shape'"),
        ('(Category(7, "cell"), Category(9, "yeast"))', '("cell",)', "give Category(1, "),
        ("return Record(", "return dict(a=", "cells.py: record 0 is 'dict' and must be"),
        ("(4, 5, 24, 35)", "(50, 10, 20, 30)", BOX),
        ("1 + i % 2", "3", "cells.py: record 0 has the label 3; labels are 1 to 2"),
    ],
)
def test_a_mistake_in_the_file_is_one_line(tmp_path, old, new, line):
    text = CELLS.replace(old, new, 1)
    assert text != CELLS
    if new == "return dict(a=":
        text = text.replace('f"cell {i}", (cell,))', "b=(cell,))").replace("60, 40, i, ", "")
    said = fault(write(tmp_path, text))
    assert line in said
    assert "\n" not in said


@pytest.mark.parametrize("key", ["'a.png'", "np.int64(i)", "None"])
def test_keys_are_names_or_numbers_and_no_two_are_equal(tmp_path, key):
    text = CELLS + GROUPED.replace('f"cell {i}"', key)
    assert "has the key" in fault(write(tmp_path, text))


def test_a_wrong_option_and_a_missing_file_are_one_line(tmp_path):
    path = write(tmp_path, CELLS)
    with pytest.raises(UserError, match=r"cells\.py: .*unexpected keyword argument 'colour'"):
        open_file(path, {"colour": 3})
    other = tmp_path / "cells.txt"
    other.touch()
    for wrong in (tmp_path / "sells.py", other):
        with pytest.raises(UserError, match=rf"{wrong.name}: no such Python file"):
            open_file(wrong)


def test_a_label_that_its_attribute_refuses_names_the_record(tmp_path):
    path = write(tmp_path, CELLS.replace('{"age": i}', '{"age": 200 + i}'))
    opened = open_file(path, split="train")["train"]
    data = DataOptions(resize=SMALL)
    batches = pipeline.eval_batches(opened.sources[0], AGE, data, batch_size=2)
    with pytest.raises(UserError, match="cell 0: instance 0: age is 200, outside its range"):
        next(batches)


def test_the_readmes_file_gives_records(tmp_path):
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(import csv.*?)^```", readme, re.MULTILINE | re.DOTALL)
    table = tmp_path / "cells.csv"
    table.write_text("file,x1,y1,x2,y2,age\n" + "a.png,1,2,30,40,5\n" * 3)
    source = open_file(write(tmp_path, code), {"table": str(table)}, split="val")["val"].sources[0]
    assert len(source) == 3
    assert source[1].image == Path("a.png")
    assert source[1].instances[0].box == (1, 2, 30, 40)
    assert source[1].instances[0].attributes == {"age": 5}
    assert source.group(1) == "a.png"
