"""Paths of the images that an annotation file names."""

import posixpath
from pathlib import Path


def inside(folder: Path, name: str) -> Path:
    """Return the path of the image `name` below `folder`.

    Raises ValueError if `name` is absolute or leads out of the folder by `..`. Otherwise an
    annotation file could name any image of this computer, which reports would then contain.
    """
    below = posixpath.normpath(name)
    if below.startswith("/") or below.split("/")[0] == "..":
        raise ValueError(
            f"the file name leads out of {folder}; correct it, or set config.data.images to the "
            "folder that contains all images"
        )
    return folder / below
