"""Read UTKFace: faces with age, gender and race in the file name.

Source: https://susanqq.github.io/UTKFace, `[age]_[gender]_[race]_[date&time].jpg`. The labels are
noisy: one photograph occurs under several ages.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from mtl_jax.attributes.base import Attribute
from mtl_jax.attributes.vocabulary import GENDERS, RACES
from mtl_jax.data.duplicates import near_duplicates
from mtl_jax.data.readers import folders
from mtl_jax.data.readers.format import Block, Format, Labels
from mtl_jax.data.readers.labels import LabelReader
from mtl_jax.data.records import Category, Record, Source

_NAME = re.compile(r"(\d{1,3})_([01])_([0-4])_(\d{17})(\.\w+)*")
_EXPECTED = "file names [age]_[gender]_[race]_[date&time].jpg"


class _Chip(NamedTuple):
    found: folders.Found
    labels: dict[str, Any]
    stamp: str


class UTKFaceSource(Source):
    """One record for each chip, with one face. Its box is the whole image.

    Labels: `age` in years, `gender` of GENDERS, `race` of RACES. Images without these labels in
    their names (the public set has four), and invalid images, are left out and listed in `skipped`.
    """

    categories = (Category(1, "face"),)

    def __init__(
        self,
        folder: str | Path,
        attributes: Sequence[Attribute] = (),
        *,
        keys: Mapping[str, Any] | None = None,
        on_error: str = "stop",
    ):
        self.folder = self.image_folder = Path(folder)
        self._reader = LabelReader(attributes, keys)
        self._chips, self.skipped = folders.read_folder(
            self.folder, self._read, _EXPECTED, on_error
        )
        labels = [(chip.found.name, chip.labels) for chip in self._chips]
        self.skipped += folders.check_labels(self.folder, labels, self._reader, on_error)

    def _read(self, name: str) -> _Chip:
        match = _NAME.fullmatch(name.rpartition("/")[2])
        if match is None:
            raise ValueError("must be named [age]_[gender]_[race]_[17 digits]; rename it")
        age, gender, race, stamp = match.groups()[:4]
        height, width = folders.look_at(self.folder / name)
        labels = {"age": int(age), "gender": GENDERS[int(gender)], "race": RACES[int(race)]}
        return _Chip(folders.Found(name, height, width), labels, stamp)

    def __len__(self) -> int:
        return len(self._chips)

    def __getitem__(self, position: int) -> Record:
        found, labels, _ = self._chips[position]
        return folders.face_record(self.folder, found, position, labels, self._reader)

    def key(self, position: int) -> str:
        """Return the image's path below the folder."""
        return self._chips[position].found.name

    def chips(self) -> list[Path]:
        return [self.folder / chip.found.name for chip in self._chips]

    def group(self, position: int) -> str:
        """Return the first chip that shows nearly the same, or has the same time stamp."""
        return self._groups[position]

    @cached_property
    def _groups(self) -> list[str]:
        first = near_duplicates(self.chips(), [chip.stamp for chip in self._chips])
        return [self._chips[i].found.name for i in first]


def open_utkface(folder: Path, block: Block, labels: Labels) -> Source:
    del block
    return UTKFaceSource(folder, labels.attributes, keys=labels.keys, on_error=labels.on_error)


PEOPLE = "age, gender and race, estimated by a program (DEX) and checked by an annotator"
FORMAT = Format(
    open_utkface,
    {},
    ("utkface", "UTKFace", "crop_part1", "utkface_crop_part1"),
    "https://susanqq.github.io/UTKFace, aligned and cropped faces (non-commercial research)",
    PEOPLE,
)
