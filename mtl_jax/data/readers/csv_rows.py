"""Rows of a CSV file as dictionaries."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from mtl_jax.errors import UserError


def read_rows(table: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield each row of a CSV file with its line number.

    Raises UserError if the file cannot be read, is not a CSV table or has not all of `columns`.
    """
    csv.field_size_limit(2**31 - 1)  # Python's default allows about 180 x 180 pixels as text
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
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
