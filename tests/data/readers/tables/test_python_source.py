"""Records from a Python file of the user: opening, splitting, batching, and every mistake."""

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from annotated import labels_of
from mistakes import check_names, refused

from mtl_jax.attributes import declarations as attribute_kinds
from mtl_jax.config.options.data import DataOptions, SourceOptions
from mtl_jax.data.datasets.repeat import repeat_factors
from mtl_jax.data.datasets.sources import open_sources
from mtl_jax.data.loader import pipeline, sampler
from mtl_jax.data.records import Category
from mtl_jax.images.resize import ResizeOptions

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
    """Return the message of the error without the file's path."""
    with refused() as caught:
        first(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    return message.removeprefix(str(path))


def test_the_records_of_the_file_are_read(tmp_path):
    path = write(tmp_path, CELLS)
    opened = open_file(path, {"shade": 90}, split="val", rename={"yeast": "fungus"})["val"]
    assert opened.categories == (Category(7, "cell"), Category(9, "fungus"))
    records = [opened.sources[0][i] for i in range(len(opened.sources[0]))]
    assert [record.image[0, 0, 0] for record in records] == [90, 91, 92, 93, 94, 95]
    assert [record.instances[0].label for record in records] == [1, 2] * 3
    labels = [labels_of(record.instances[0], AGE) for record in records]
    assert labels == [{"age": i} for i in range(6)]


def test_a_group_stays_in_one_split_and_keys_are_stable(tmp_path):
    path = write(tmp_path, CELLS + GROUPED)
    names = {
        split: [record.file_name for source in opened.sources for record in source]
        for split, opened in open_file(path).items()
    }
    assert sum(map(len, names.values())) == 40
    assert all(len(of_split) % 10 == 0 for of_split in names.values())
    # Splits store keys and not positions, so that a new first record moves no other.
    path.write_text(path.read_text().replace('f"cell {i}"', 'f"cell {i - 1}"'))
    again = open_file(path, {"count": 41})
    assert [r.file_name for r in again["train"].sources[0]] == names["train"]


@pytest.mark.parametrize("processes", [False, True])
def test_threads_and_processes_batch_its_records(tmp_path, processes):
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


REQUIRED = ("open_source", "list", "categories", "__len__", "__getitem__")


@pytest.mark.parametrize(
    ("old", "new", "parts"),  # parts: the line of the file or the record, and its fault
    [
        ("def open_source", "def open_sauce", ("open_source",)),
        ("return Cells(count, shade)", "return [1, 2]", REQUIRED),
        ("return Cells(count, shade)", "return Cell()", (27, "Cell")),
        ("import numpy as np", "import numpi", (6, "numpi")),
        ("self.shade + i", "self.shape + i", (21, "Cells", "shape")),
        (
            '(Category(7, "cell"), Category(9, "yeast"))',
            '("cell",)',
            ("categories", "cell", "Category"),
        ),
        ("return Record(", "return dict(a=", (0, "dict", "Record")),
        ("(4, 5, 24, 35)", "(50, 10, 20, 30)", (0, "50, 10, 20, 30", 60, 40)),
        ("1 + i % 2", "3", (0, 3, 1, 2, "categories")),
    ],
)
def test_a_mistake_in_the_file_is_one_line(tmp_path, old, new, parts):
    text = CELLS.replace(old, new, 1)
    assert text != CELLS
    if new == "return dict(a=":
        text = text.replace('f"cell {i}", (cell,))', "b=(cell,))").replace("60, 40, i, ", "")
    check_names(fault(write(tmp_path, text)), *parts)


@pytest.mark.parametrize(
    ("key", "record", "value"),
    [("'a.png'", 1, "a.png"), ("np.int64(i)", 0, repr(np.int64(0))), ("None", 0, None)],
)
def test_keys_must_be_unique_text_or_numbers(tmp_path, key, record, value):
    text = CELLS + GROUPED.replace('f"cell {i}"', key)
    check_names(fault(write(tmp_path, text)), record, value)


def test_a_wrong_option_and_a_missing_file_are_one_line(tmp_path):
    path = write(tmp_path, CELLS)
    with refused(path, "open_source", "colour"):
        open_file(path, {"colour": 3})
    other = tmp_path / "cells.txt"
    other.touch()
    for wrong in (tmp_path / "sells.py", other):
        with refused(wrong, "path", "open_source"):
            open_file(wrong)


def test_an_invalid_label_is_an_error_that_names_the_record(tmp_path):
    path = write(tmp_path, CELLS.replace('{"age": i}', '{"age": 200 + i}'))
    opened = open_file(path, split="train")["train"]
    data = DataOptions(resize=SMALL)
    batches = pipeline.eval_batches(opened.sources[0], AGE, data, batch_size=2)
    with refused("cell 0", "age", 200, 116, "config.data.on_error"):
        next(batches)
    # The size and the class of the record can be read, so that the loader can skip it.
    source = opened.sources[0]
    assert len(sampler.find_buckets([source], ResizeOptions())) == 1
    assert len(repeat_factors(source, 0.5)) == len(source)


def test_the_file_in_the_docs_gives_records(tmp_path):
    page = (Path(__file__).parents[4] / "docs" / "data.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(import csv.*?)^```", page, re.MULTILINE | re.DOTALL)
    table = tmp_path / "cells.csv"
    table.write_text("file,x1,y1,x2,y2,age\n" + "a.png,1,2,30,40,5\n" * 3)
    source = open_file(write(tmp_path, code), {"table": str(table)}, split="val")["val"].sources[0]
    assert len(source) == 3
    assert source[1].image == Path("a.png")
    assert source[1].instances[0].box == (1, 2, 30, 40)
    assert labels_of(source[1].instances[0], AGE) == {"age": 5}
    assert source.group(1) == "a.png"
