"""Rows of a CSV file as dictionaries."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from mtl_jax.errors import UserError
from mtl_jax.io.regular import open_regular

# Characters of a cell: an outline of 100,000 points, or a gray image of 2,000 x 2,000 pixels.
# Python's default allows about 180 x 180 pixels.
MAX_CELL = 2**24


def read_rows(table: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield each row of a CSV file with its line number.

    Raises UserError if the file cannot be read, is not a CSV table or has not all of `columns`.
    """
    try:
        with open_regular(table) as raw, io.TextIOWrapper(raw, "utf-8-sig", newline="") as file:
            csv.field_size_limit(MAX_CELL)
            rows = csv.DictReader(file)
            if missing := [c for c in columns if c not in (rows.fieldnames or ())]:
                expected = ", ".join(columns)
                raise UserError(f"{table}: has no column {missing[0]}; expected {expected}")
            for row in rows:
                yield rows.line_num, row
    except OSError as error:
        raise UserError(f"{table}: cannot be read ({error.strerror})") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{table}: is not a CSV table ({error}); download it again") from None
