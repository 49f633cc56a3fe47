"""Read and write faces in a table with the columns age, ethnicity, gender and pixels.

Source: the table of MaskMTL's published code, and `age_gender.csv`, which is UTKFace at 48 x 48. A
cell contains the gray pixels of a square image, row by row, separated by spaces.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from mtl_jax.attributes.base import Attribute
from mtl_jax.attributes.categorical import Categorical
from mtl_jax.attributes.continuous import Continuous
from mtl_jax.attributes.vocabulary import GENDERS, RACES
from mtl_jax.data.duplicates import near_duplicates
from mtl_jax.data.pixels import read_pixels
from mtl_jax.data.readers import folders
from mtl_jax.data.readers.csv_rows import read_rows
from mtl_jax.data.readers.faces.utkface import PEOPLE
from mtl_jax.data.readers.format import Block, Format, Labels, find_annotations
from mtl_jax.data.readers.labels import LabelReader
from mtl_jax.data.records import Category, Instance, Record, Source, named
from mtl_jax.errors import AnnotationErrors, UserError
from mtl_jax.io.atomic import write_whole
from mtl_jax.io.csv_table import TableWriter

# The columns as attributes, with which the labels of other chips are written.
ATTRIBUTES: tuple[Attribute, ...] = (
    Continuous("age", range=(0.0, 120.0)),
    Categorical("gender", classes=GENDERS),
    Categorical("race", classes=RACES),
)
COLUMNS = ("age", "ethnicity", "gender", "pixels")
OLDEST = 120


class _Face(NamedTuple):
    pixels: np.ndarray  # [S, S, 1] uint8
    labels: dict[str, Any]
    line: int


class FaceCsvSource(Source):
    """One record for each row, with one face. Its box is the whole image.

    Labels: `age` in years, `gender` of GENDERS, `race` of RACES. Other columns are not read. All
    faulty rows are raised at once as AnnotationErrors. With `on_error="skip"`, they are left out
    and listed in `skipped`.
    """

    categories = (Category(1, "face"),)

    def __init__(
        self,
        path: str | Path,
        attributes: Sequence[Attribute] = (),
        *,
        keys: Mapping[str, Any] | None = None,
        on_error: str = "stop",
    ):
        self.path = Path(path)
        self._reader = LabelReader(attributes, keys)
        self._faces, faults = _read(self.path)
        if faults and on_error == "stop":
            raise AnnotationErrors(faults)
        if not self._faces:
            first = f"; the first fault: {faults[0]}" if faults else ""
            raise UserError(f"{self.path}: has no valid row{first}")
        self.skipped = tuple(faults)
        named = [(f"line {face.line}", face.labels) for face in self._faces]
        self.skipped += folders.check_labels(self.path, named, self._reader, on_error)

    def __len__(self) -> int:
        return len(self._faces)

    def __getitem__(self, position: int) -> Record:
        pixels, labels, line = self._faces[position]
        side = len(pixels)
        box = (0.0, 0.0, float(side), float(side))
        face = Instance(box, 1, id=position + 1, attributes=self._reader.read(labels)[0])
        return Record(pixels, side, side, position, f"line_{line}.png", (face,))

    def key(self, position: int) -> int:
        """Return the line of the row in the table."""
        return self._faces[position].line

    def chips(self) -> list[np.ndarray]:
        return [face.pixels[..., 0] for face in self._faces]

    def group(self, position: int) -> str:
        """Return the line of the first row that shows nearly the same face, masked or not."""
        return self._groups[position]

    @cached_property
    def _groups(self) -> list[str]:
        first = near_duplicates(self.chips(), masked=True)
        return [str(self._faces[i].line) for i in first]


def _read(path: Path) -> tuple[list[_Face], list[str]]:
    faces, faults = [], []
    for line, row in read_rows(path, COLUMNS):
        try:
            faces.append(_read_row(row, line))
        except ValueError as error:
            faults.append(f"{path}: line {line}: {error}")
    return faces, faults


def _read_row(row: Mapping[str, str | None], line: int) -> _Face:
    age, race, gender = (
        _whole_number(row[column], column, most)
        for column, most in (("age", OLDEST), ("ethnicity", len(RACES) - 1), ("gender", 1))
    )
    try:
        pixels = np.array((row["pixels"] or "").split(), np.int64)
    except (ValueError, OverflowError):
        raise ValueError("pixels must be whole numbers separated by spaces") from None
    side = math.isqrt(pixels.size)
    if not pixels.size or side * side != pixels.size:
        raise ValueError(f"{pixels.size} pixels are not a square image, such as 48 x 48 = 2304")
    if pixels.min() < 0 or pixels.max() > 255:
        raise ValueError("pixels must be from 0 to 255")
    labels = {"age": age, "gender": GENDERS[gender], "race": RACES[race]}
    return _Face(pixels.astype(np.uint8).reshape(side, side, 1), labels, line)


def _whole_number(text: str | None, column: str, most: int) -> int:
    """Read a label. pandas writes whole numbers as 3.0 if a cell of the column is empty."""
    digits = (text or "").strip().removesuffix(".0")
    if not digits.isdecimal() or int(digits) > most:
        raise ValueError(f"{column} must be a whole number from 0 to {most}, got {text!r}")
    return int(digits)


def gray_faces(
    source: Source, side: int, left_out: list[str]
) -> Iterator[tuple[np.ndarray, Mapping[str, Any]]]:
    """Yield the images of a source of square chips, gray, `[side, side]` uint8, with their labels.

    Images that cannot be read, are not square or have no valid labels are left out; the reasons are
    appended to `left_out`. Raises UserError if no image is left.
    """
    for position in range(len(source)):
        record = source[position]
        try:
            with named(record):
                image = read_pixels(record, 1)
                if record.height != record.width:
                    raise ValueError(f"is {record.width} x {record.height}, but must be square")
        except UserError as error:
            left_out.append(str(error))
            continue
        labels = record.instances[0].attributes
        if missing := [a.name for a in ATTRIBUTES if a.name not in labels]:
            left_out.append(f"{record.place}: has no valid label {missing[0]}")
            continue
        smaller = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
        yield smaller, {a.name: a.annotate(*labels[a.name]) for a in ATTRIBUTES}
    if left_out and len(left_out) == len(source):
        raise UserError(f"none of the {len(source)} images can be used; {left_out[0]}")


def write_face_csv(path: Path, faces: Iterable[tuple[np.ndarray, Mapping[str, Any]]]) -> int:
    """Write images `[S, S]` or `[S, S, C]` uint8 (RGB) with their labels, as FaceCsvSource reads
    them; return the number of rows. Raises ValueError if the table cannot represent an image or a
    label.
    """
    count = 0
    with write_whole(path) as draft, open(draft, "w", newline="", encoding="utf-8") as file:
        writer = TableWriter(file, lineterminator="\n")
        writer.write_row(COLUMNS)
        for image, labels in faces:
            if image.dtype != np.uint8 or image.shape[0] != image.shape[1]:
                raise ValueError(
                    f"row {count}: expected a square uint8 image, got {image.shape} {image.dtype}"
                )
            gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.shape[2:] == (3,) else image
            race, gender = RACES.index(labels["race"]), GENDERS.index(labels["gender"])
            pixels = " ".join(map(str, gray.ravel().tolist()))
            writer.write_row((int(labels["age"]), race, gender, pixels))
            count += 1
    return count


def open_face_csv(folder: Path, block: Block, labels: Labels) -> Source:
    path = find_annotations(folder, block["annotations"], (".csv",))
    return FaceCsvSource(path, labels.attributes, keys=labels.keys, on_error=labels.on_error)


FORMAT = Format(
    open_face_csv,
    {"annotations": ""},
    ("face_csv", "age_gender.csv"),
    "https://www.kaggle.com/datasets/nipunarora8/age-gender-and-ethnicity-face-data-csv "
    "(of UTKFace: non-commercial research)",
    PEOPLE,
)
