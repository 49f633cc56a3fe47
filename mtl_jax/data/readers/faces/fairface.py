"""Read FairFace: faces with age range, gender and race in a table.

Source: https://github.com/joojs/fairface, CC BY 4.0.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mtl_jax.attributes.base import Attribute
from mtl_jax.data.readers import folders
from mtl_jax.data.readers.csv_rows import read_rows
from mtl_jax.data.readers.format import Block, Format, Labels
from mtl_jax.data.readers.image_files import Found, ImageFiles, Named
from mtl_jax.data.readers.labels import LabelReader
from mtl_jax.data.records import Category, Record, Source
from mtl_jax.errors import AnnotationErrors, UserError

AGES: dict[str, tuple[int, int]] = {
    "0-2": (0, 2),
    "3-9": (3, 9),
    "10-19": (10, 19),
    "20-29": (20, 29),
    "30-39": (30, 39),
    "40-49": (40, 49),
    "50-59": (50, 59),
    "60-69": (60, 69),
    "more than 70": (70, 116),  # up to UTKFace's maximum
}
GENDERS = {"Male": "male", "Female": "female"}
RACES = (
    "White",
    "Black",
    "East Asian",
    "Southeast Asian",
    "Indian",
    "Middle Eastern",
    "Latino_Hispanic",
)
COLUMNS = ("file", "age", "gender", "race")


class _Chip(NamedTuple):
    found: folders.Found
    labels: dict[str, Any]


class FairFaceSource(Source):
    """One record for each row of the tables, with one face. Its box is the whole image.

    Labels: `age`, the interval of its range in years; `age_group`, the range as written; `gender`,
    male or female; `race`, one of RACES, which the preset utkface maps to UTKFace's names.

    `annotations` is a table below the folder; by default, all `fairface*.csv` in it are read. All
    faulty rows are raised at once as AnnotationErrors. With `on_error="skip"`, they are left out
    and listed in `skipped`.
    """

    categories = (Category(1, "face"),)

    def __init__(
        self,
        folder: str | Path,
        attributes: Sequence[Attribute] = (),
        *,
        annotations: str = "",
        keys: Mapping[str, Any] | None = None,
        preset: str = "",
        on_error: str = "stop",
    ):
        self.folder = self.image_folder = Path(folder)
        self._reader = LabelReader(attributes, keys, preset)
        if annotations:
            tables = [self.folder / annotations]
        else:
            tables = sorted(self.folder.glob("fairface*.csv"))
        if not tables:
            raise UserError(f"{self.folder}: has no fairface*.csv; name the table in annotations")
        self._chips: list[_Chip] = []
        faults: list[str] = []
        for table in tables:
            self._read_table(table, faults)
        if faults and on_error == "stop":
            raise AnnotationErrors(faults)
        if not self._chips:
            raise UserError(f"{tables[0]}: has no valid row{_first(faults)}")
        self.skipped = tuple(faults)
        labels = [(chip.found.name, chip.labels) for chip in self._chips]
        self.skipped += folders.check_labels(self.folder, labels, self._reader, on_error)

    def _read_table(self, table: Path, faults: list[str]) -> None:
        seen: set[str] = set()
        rows = list(read_rows(table, COLUMNS))
        found, notes = ImageFiles(self.folder).find([Named(row["file"] or "") for _, row in rows])
        self.notes += notes
        for (line, row), file in zip(rows, found, strict=True):
            try:
                self._chips.append(self._read_row(row, file, seen))
            except ValueError as error:
                faults.append(f"{table}: line {line} ({row['file']}): {error}")

    def _read_row(self, row: Mapping[str, str | None], file: Found, seen: set[str]) -> _Chip:
        name, age, gender, race = (row[column] or "" for column in COLUMNS)
        for value, known, column in (
            (age, AGES, "age"),
            (gender, GENDERS, "gender"),
            (race, RACES, "race"),
        ):
            if value not in known:
                raise ValueError(
                    f"{column} must be one of {', '.join(known)}, got {value!r}; correct it"
                )
        if not name or file.path in seen:
            raise ValueError("the file is missing or occurs twice; correct or remove the row")
        if file.fault:
            raise ValueError(file.fault)
        seen.add(file.path)
        height, width = folders.look_at(self.folder / file.path)
        labels = {"age": AGES[age], "age_group": age, "gender": GENDERS[gender], "race": race}
        return _Chip(folders.Found(file.path, height, width), labels)

    def __len__(self) -> int:
        return len(self._chips)

    def __getitem__(self, position: int) -> Record:
        found, labels = self._chips[position]
        return folders.face_record(self.folder, found, position, labels, self._reader)

    def key(self, position: int) -> str:
        """Return the image's path below the folder."""
        return self._chips[position].found.name

    def chips(self) -> list[Path]:
        return [self.folder / chip.found.name for chip in self._chips]

    def group(self, position: int) -> str:
        """Return the image's path, since persons are not annotated.

        Near duplicates are not searched as for UTKFace: among 3,573 chips, no two show one
        photograph, and the five that a search finds only have similar black borders.
        """
        return self.key(position)


def _first(faults: Sequence[str]) -> str:
    return f"; the first fault: {faults[0]}" if faults else ""


def open_fairface(folder: Path, block: Block, labels: Labels) -> Source:
    return FairFaceSource(
        folder,
        labels.attributes,
        annotations=block["annotations"],
        keys=labels.keys,
        preset=labels.preset,
        on_error=labels.on_error,
    )


FORMAT = Format(
    open_fairface,
    {"annotations": ""},
    ("fairface",),
    "https://github.com/joojs/fairface, padding 0.25 (CC BY 4.0)",
    "age range, gender and race by the majority of three paid annotators",
)
