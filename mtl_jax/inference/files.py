"""Folders of pictures to `predictions.json` and overlays."""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from mtl_jax.errors import UserError
from mtl_jax.inference.predictor import Predictor

# What these hold is a picture or a broken one; what others hold is looked at.
PICTURE_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".npy", ".png", ".tif", ".tiff", ".webp"}
MANY = 10  # so many files of a kind that is no picture's are listed; beyond, they are counted


class PictureFile(NamedTuple):
    """Where a picture lies, and its name in the output."""

    path: Path
    name: str  # relative to the input folder, with /


class Collected(NamedTuple):
    """What lies in the inputs, each in sorted order."""

    pictures: list[PictureFile]
    others: list[PictureFile]  # neither by their name nor by their content pictures


def collect(inputs: Sequence[str | Path], leave_out: str | Path | None = None) -> Collected:
    """List pictures, and the files of folders however deep; hidden files and those below
    `leave_out` are passed over.

    Names are relative to their input, or, where two inputs would give one name, to the folder
    common to all. Raises UserError for an input that is not there.
    """
    left_out = None if leave_out is None else Path(leave_out).resolve()
    found: dict[Path, PictureFile] = {}
    for given in map(Path, inputs):
        if not given.exists():
            raise UserError(f"{given}: no such picture or folder")
        root = given if given.is_dir() else given.parent
        for path in _walk(given):
            resolved = path.resolve()
            if left_out is None or not resolved.is_relative_to(left_out):
                found.setdefault(resolved, PictureFile(path, path.relative_to(root).as_posix()))
    files = list(found.values())
    if len({file.name for file in files}) < len(files):
        common = Path(os.path.commonpath([path.parent for path in found]))
        files = [
            PictureFile(file.path, path.relative_to(common).as_posix())
            for path, file in found.items()
        ]
    files.sort(key=lambda file: file.name)
    pictures = [file for file in files if _may_be_picture(file.path)]
    return Collected(pictures, [file for file in files if file not in set(pictures)])


def predict_folder(predictor: Predictor, inputs: Sequence[str | Path], output: str | Path) -> int:
    """Write `predictions.json` and `overlays/<name>.png` of every picture in `inputs` below
    `output`; give the exit code.

    0: all good; 1: some files were skipped, each named on stderr; 2: no picture could be read.
    Raises UserError for inputs that are not there, and an output that is no folder.
    """
    output = Path(output)
    if output.exists() and not output.is_dir():
        raise UserError(f"{output}: the output must be a folder, and this is a file")
    pictures, others = collect(inputs, leave_out=output)
    skipped = _report_others(others)
    entries: dict[int, list[dict[str, Any]]] = {}
    for position, result in predictor.predict_files([file.path for file in pictures]):
        name = pictures[position].name
        if isinstance(result, Exception):
            skipped += 1
            print(f"skipped {pictures[position].path}: {_reason(result)}", file=sys.stderr)
            continue
        write_picture(output / "overlays" / f"{name}.png", result.draw())
        entries[position] = result.to_json(position, name)
    if not entries:
        print(f"no picture could be read in {', '.join(map(str, inputs))}", file=sys.stderr)
        return 2
    write_predictions(
        output / "predictions.json", [e for position in sorted(entries) for e in entries[position]]
    )
    count = sum(len(found) for found in entries.values())
    print(f"{len(entries)} pictures, {count} detections: {output / 'predictions.json'}")
    print(f"overlays: {output / 'overlays'}")
    return 1 if skipped else 0


def write_predictions(path: Path, entries: Iterable[dict[str, Any]]) -> None:
    """Write entries of `Result.to_json` as one list; the file is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    # An entry a line: large files stay readable, and comparable line by line.
    text = ",\n".join(json.dumps(entry, allow_nan=False, ensure_ascii=False) for entry in entries)
    partial.write_text(f"[\n{text}\n]\n" if text else "[]\n", encoding="utf-8")
    partial.replace(path)


def write_picture(path: Path, image: np.ndarray) -> None:
    """Write RGB pixels as a PNG, with the folders that its path needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    done, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not done:
        raise ValueError(f"{path}: OpenCV cannot encode a picture of shape {image.shape}")
    path.write_bytes(data.tobytes())


def _walk(given: Path) -> list[Path]:
    if not given.is_dir():
        return [given]
    paths, seen = [], set()
    for folder, folders, names in os.walk(given, followlinks=True):
        if (resolved := Path(folder).resolve()) in seen:  # a link to a folder above
            folders.clear()
            continue
        seen.add(resolved)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths += [Path(folder) / name for name in names if not name.startswith(".")]
    return [path for path in paths if path.is_file() or path.is_symlink()]


def _may_be_picture(path: Path) -> bool:
    """Say whether a file is a picture by its name, or else by its first bytes."""
    return path.suffix.lower() in PICTURE_SUFFIXES or cv2.haveImageReader(str(path))


def _report_others(others: Sequence[PictureFile]) -> int:
    """Name the files that are no pictures on stderr, and give their number."""
    kinds = Counter(file.path.suffix.lower() for file in others)
    for kind, count in kinds.items():
        of_kind = [file for file in others if file.path.suffix.lower() == kind]
        if count > MANY:
            print(f"skipped {count} {kind or 'other'} files: not pictures", file=sys.stderr)
            continue
        for file in of_kind:
            fault = "the file is empty" if _is_empty(file.path) else "not a picture"
            print(f"skipped {file.path}: {fault}", file=sys.stderr)
    return len(others)


def _is_empty(path: Path) -> bool:
    return path.is_file() and path.stat().st_size == 0


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
