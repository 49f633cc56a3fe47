"""Output of a prediction run: `predictions.json`, `predictions.csv` and crops."""

import json
import math
import re
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import numpy as np

from mtl_jax.attributes.base import Attribute
from mtl_jax.images.decode import write_png
from mtl_jax.io.atomic import write_whole
from mtl_jax.io.csv_table import TableWriter
from mtl_jax.results import Result
from mtl_jax.visualize.drawing.draw import as_rgb, to_show

COLUMNS = ("image_id", "file_name", "frame", "time", "category_id", "category", "score")
BOX = ("x", "y", "width", "height")
_CROP = re.compile(r"(\d{6}_)?\d+_[\w.-]+\.png")
# Files and folders that are written below the output folder.
WRITTEN = (
    *(f"predictions.{suffix}" for suffix in ("json", "csv", "jsonl", "progress.jsonl")),
    "overlays",
    "crops",
)


class Predictions:
    """Writer of `predictions.json` and, optionally, `predictions.csv`.

    Use it as a context manager. Entries are written as they are added, and on exit both files are
    moved into place. After an error, or if `add` was never called, neither file is written.
    """

    def __init__(self, folder: Path, declared: Sequence[Attribute], with_csv: bool = False):
        self._folder = folder
        self._declared = declared
        self._with_csv = with_csv
        self._files = ExitStack()
        self._json: TextIO | None = None
        self._csv: TableWriter | None = None
        self._separator = "["

    def __enter__(self) -> "Predictions":
        return self

    def add(self, entries: Iterable[dict[str, Any]]) -> None:
        """Write entries of `Result.to_json`, some extended by `frame` and `time` or by `source`."""
        if self._json is None:
            self._json = self._open("predictions.json")
            if not self._with_csv:  # a table of an earlier run does not match the new predictions
                (self._folder / "predictions.csv").unlink(missing_ok=True)
            else:
                self._csv = TableWriter(self._open("predictions.csv"))
                names = [name for a in self._declared for name in _empty(a)]
                self._csv.write_row([*COLUMNS, *BOX, *names])
        for entry in entries:
            # One entry per line: large files stay readable and can be compared line by line.
            text = json.dumps(entry, allow_nan=False, ensure_ascii=False)
            self._json.write(f"{self._separator}\n{text}")
            self._separator = ","
            if self._csv is not None:
                self._csv.write_row(_row(entry, self._declared))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._json is not None and kind is None:
            self._json.write("[]\n" if self._separator == "[" else "\n]\n")
        self._files.__exit__(kind, error, trace)

    def _open(self, name: str) -> TextIO:
        draft = self._files.enter_context(write_whole(self._folder / name))
        return self._files.enter_context(open(draft, "w", encoding="utf-8", newline=""))


def clear_crops(folder: Path) -> None:
    """Remove the crops of an earlier run, which are not overwritten if their classes differ."""
    for path in folder.glob("*.png"):
        if _CROP.fullmatch(path.name):
            path.unlink()


def write_crops(folder: Path, image: np.ndarray, result: Result, prefix: str = "") -> None:
    """Crop the box of each drawn detection from `image` and write it to `<number>_<class>.png`.

    The number counts the image's detections from 0, highest score first. `prefix` is put before
    it. A box that contains no pixel is skipped.
    """
    for i in to_show(image, result):
        x1, y1 = (max(math.floor(v), 0) for v in result.boxes[i, :2])
        x2, y2 = (math.ceil(v) for v in result.boxes[i, 2:])
        crop = image[y1:y2, x1:x2]
        if crop.size:
            name = re.sub(r"[^\w.-]+", "_", result.class_names[i])[:50]
            write_png(folder / f"{prefix}{i}_{name}.png", as_rgb(crop))


def _row(entry: dict[str, Any], declared: Sequence[Attribute]) -> list[Any]:
    found = [a.cells(entry["attributes"][a.name]) for a in declared]
    values = [value for cells in found for value in cells.values()]
    return [*(entry.get(column, "") for column in COLUMNS), *entry["bbox"], *values]


def _empty(attribute: Attribute) -> dict[str, Any]:
    return attribute.cells(attribute.describe(np.zeros(attribute.prediction_size, np.float32)))
