"""Paths of the images that an annotation file names."""

import re
from pathlib import Path
from typing import NamedTuple


class ImagePath(NamedTuple):
    """The parts of a path as an annotation names it."""

    parts: tuple[str, ...]
    is_relative: bool  # False: absolute or outside the folder, so that only the last part counts


def split_path(name: str, folder: Path) -> ImagePath:
    """Split a path into its parts below `folder`."""
    name = name.removeprefix(f"{folder.absolute().as_posix()}/")
    is_relative = not re.match(r"([A-Za-z]:)?/", name)
    parts: list[str] = []
    for part in name.split("/"):
        if part == ".." and parts:
            parts.pop()
        elif part == "..":
            is_relative = False
        elif part not in ("", "."):
            parts.append(part)
    return ImagePath(tuple(parts), is_relative)


def inside(folder: Path, name: str) -> Path:
    """Return the path of the image `name` below `folder`.

    Raises ValueError if `name` is absolute or leads out of the folder by `..`. Otherwise an
    annotation file could name any image of this computer, which reports would then contain.
    """
    parts, is_relative = split_path(name, folder)
    if not is_relative:
        raise ValueError(
            f"the file name leads out of {folder}; correct it, or set config.data.images to the "
            "folder that contains all images"
        )
    return folder.joinpath(*parts)
