"""Files of the inputs: images, videos, and files that are neither."""

import glob
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2

from mtl_jax.errors import UserError
from mtl_jax.inference.video import is_video

# Files with these suffixes are taken for images, even if damaged; others are detected by content.
IMAGE_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".npy", ".png", ".tif", ".tiff", ".webp"}


class InputFile(NamedTuple):
    """The path of an input file, and its name in the output."""

    path: Path
    name: str  # relative to the input folder, with /


class Collected(NamedTuple):
    """Files of the inputs, each list in sorted order."""

    images: list[InputFile]
    videos: list[InputFile]
    others: list[InputFile]  # neither images nor videos, no regular files, or not named in UTF-8


def collect(inputs: Sequence[str | Path], leave_out: Sequence[Path] = ()) -> Collected:
    """List the files of `inputs`, which are files, folders (read recursively) or patterns.

    A pattern contains `*`, `?` or `[...]`; `**` matches folders at any depth. An existing file or
    folder of that name takes precedence. Hidden files, and files in or below `leave_out`, are
    skipped. Names are relative to the input folder, or to the longest existing folder at the start
    of a pattern. If two files would have the same name, all names are relative to their common
    folder. Raises UserError if an input does not exist or a pattern matches nothing.
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
        if is_misnamed(file.path) or (file.path.exists() and not file.path.is_file()):
            collected.others.append(file)
        elif _may_be_image(file.path):
            collected.images.append(file)
        elif is_video(file.path):
            collected.videos.append(file)
        else:
            collected.others.append(file)
    return collected


def _expand(given: str) -> tuple[Path, list[Path]]:
    """Return the folder that the names of an input's files are relative to, and the files."""
    path = Path(given)
    if path.exists():
        return path if path.is_dir() else path.parent, _walk(path)
    if glob.escape(given) == given:
        raise UserError(f"{given}: no such image, video or folder")
    root = next(folder for folder in path.parents if folder.is_dir())
    pattern = path.relative_to(root).as_posix()
    matches = sorted(glob.glob(pattern, root_dir=root, recursive=True))
    if not matches:
        raise UserError(f"{given}: no file matches this pattern")
    return root, [file for match in matches for file in _walk(root / match)]


def _walk(given: Path) -> list[Path]:
    if not given.is_dir():
        return [given]
    paths, seen = [], set()
    for folder, folders, names in os.walk(given, followlinks=True):
        if (resolved := Path(folder).resolve()) in seen:  # a link to a folder that was listed
            folders.clear()
            continue
        seen.add(resolved)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths += [Path(folder) / name for name in names if not name.startswith(".")]
    return [path for path in paths if path.is_file() or path.is_symlink()]


def is_misnamed(path: Path) -> bool:
    """Return whether a path is not valid UTF-8, as in some old archives.

    Such a path can be neither written to JSON nor opened by OpenCV.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return True
    return False


def _may_be_image(path: Path) -> bool:
    """Return whether a file is an image by its suffix or by its first bytes."""
    return path.suffix.lower() in IMAGE_SUFFIXES or cv2.haveImageReader(str(path))
