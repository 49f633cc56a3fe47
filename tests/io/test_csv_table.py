"""Tests of cells that a spreadsheet does not run; every table is written by TableWriter."""

import ast
import csv
from pathlib import Path

import pytest

import mtl_jax
from mtl_jax.io.csv_table import TableWriter, harmless

STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


@pytest.mark.parametrize("start", STARTS)
def test_text_never_begins_with_a_formula(start):
    for before in ("", "photo;", "a\t", "a\n"):
        text = f"{before}{start}cmd|' /C calc'!A0"
        cell = harmless(text)
        assert cell.replace("'", "") == text.replace("'", "")
        for part in cell.replace("\t", ";").replace("\n", ";").replace("\r", ";").split(";"):
            assert not part.startswith(STARTS)


@pytest.mark.parametrize("cell", [-1.5, -3, "-12.5", "+7", "1e-3", "", "a-b.png", "2=3", None])
def test_numbers_and_other_text_are_unchanged(cell):
    assert harmless(cell) == cell


def test_cells_are_written_as_one_table(tmp_path):
    path = tmp_path / "a.csv"
    with path.open("w", newline="") as file:
        TableWriter(file).write_row(["=1+1", -2, 'x "y", z'])
    with path.open(newline="") as file:
        assert list(csv.reader(file)) == [["'=1+1", "-2", 'x "y", z']]


def test_no_other_module_writes_tables():
    package = Path(mtl_jax.__file__).parent
    users = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in ("writer", "DictWriter", "to_csv")
        if isinstance(node.value, ast.Name) and node.value.id == "csv"
    }
    assert users == {"io/csv_table.py"}
