"""What lies in the inputs: pictures, videos, and files that are neither."""

import glob
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2

from mtl_jax.errors import UserError
from mtl_jax.inference.video import is_video

# What these hold is a picture or a broken one; what others hold is looked at.
PICTURE_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".npy", ".png", ".tif", ".tiff", ".webp"}


class InputFile(NamedTuple):
    """Where a file lies, and its name in the output."""

    path: Path
    name: str  # relative to the input folder, with /


class Collected(NamedTuple):
    """What lies in the inputs, each in sorted order."""

    pictures: list[InputFile]
    videos: list[InputFile]
    others: list[InputFile]  # neither by their name nor by their content, or misnamed


def collect(inputs: Sequence[str | Path], leave_out: Sequence[Path] = ()) -> Collected:
    """List files, those of folders however deep, and what fits a pattern; hidden files and what is
    `leave_out` or below it are passed over.

    A pattern has `*`, `?` or `[...]`, and `**` for folders however deep; what exists by such a name
    is that file or folder. Names are relative to the folder given, of a pattern to those of its
    folders that exist, or, where two inputs would give one name, to the folder common to all.
    Raises UserError for an input that is not there and a pattern that nothing fits.
    """
    left_out = [path.resolve() for path in leave_out]
    found: dict[Path, InputFile] = {}
    for given in inputs:
        root, paths = _expand(str(given))
        for path in paths:
            resolved = path.resolve()
            if not any(resolved.is_relative_to(written) for written in left_out):
                found.setdefault(resolved, InputFile(path, path.relative_to(root).as_posix()))
    files = list(found.values())
    if len({file.name for file in files}) < len(files):
        common = Path(os.path.commonpath([path.parent for path in found]))
        files = [
            InputFile(file.path, path.relative_to(common).as_posix())
            for path, file in found.items()
        ]
    collected = Collected([], [], [])
    for file in sorted(files, key=lambda file: file.name):
        if is_misnamed(file.path):
            collected.others.append(file)
        elif _may_be_picture(file.path):
            collected.pictures.append(file)
        elif is_video(file.path):
            collected.videos.append(file)
        else:
            collected.others.append(file)
    return collected


def _expand(given: str) -> tuple[Path, list[Path]]:
    """Give the files of one input, and the folder that their names are relative to."""
    path = Path(given)
    if path.exists():
        return path if path.is_dir() else path.parent, _walk(path)
    if glob.escape(given) == given:
        raise UserError(f"{given}: no such picture, video or folder")
    root = next(folder for folder in path.parents if folder.is_dir())
    pattern = path.relative_to(root).as_posix()
    matches = sorted(glob.glob(pattern, root_dir=root, recursive=True))
    if not matches:
        raise UserError(f"{given}: nothing fits this pattern")
    return root, [file for match in matches for file in _walk(root / match)]


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


def is_misnamed(path: Path) -> bool:
    """Say whether a name is no UTF-8, as old archives leave some: no JSON can hold it, and OpenCV
    breaks down on it.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return True
    return False


def _may_be_picture(path: Path) -> bool:
    """Say whether a file is a picture by its name, or else by its first bytes."""
    return path.suffix.lower() in PICTURE_SUFFIXES or cv2.haveImageReader(str(path))
