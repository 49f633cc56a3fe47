"""Writing of CSV tables that are safe to open in a spreadsheet."""

import csv
import re
from collections.abc import Iterable
from typing import Any, TextIO

# Where a spreadsheet would begin a formula: at the start of a cell, or after a character at which a
# program with other separators begins a new cell. The wide characters are those of Asian keyboards.
_FORMULA = re.compile(r"(^|[;\t\r\n])(?=[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20])")


def harmless(cell: Any) -> Any:
    """Return a cell that a spreadsheet does not run as a formula.

    Text gets an apostrophe before each place where a formula could begin. Numbers, also as text,
    are unchanged.
    """
    if not isinstance(cell, str):
        return cell
    try:
        float(cell)
    except ValueError:
        return _FORMULA.sub(r"\1'", cell)
    return cell


class TableWriter:
    """Writes rows of `harmless` cells. All tables of this library are written by it."""

    def __init__(self, file: TextIO, lineterminator: str = "\r\n"):
        self._writer = csv.writer(file, lineterminator=lineterminator)

    def write_row(self, cells: Iterable[Any]) -> None:
        self._writer.writerow([harmless(cell) for cell in cells])
