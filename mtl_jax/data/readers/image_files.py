"""Find the image files that annotations name.

Annotations are often moved between machines: their paths are outdated, use backslashes, or differ
from the files in case, Unicode form, folder or extension. A file is never guessed among several,
and never outside the image folder.
"""

import os
import posixpath
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from mtl_jax.data.readers.folders import EXTENSIONS
from mtl_jax.data.readers.image_paths import ImagePath, split_path
from mtl_jax.errors import suggest

_IMAGES = (*EXTENSIONS, ".npy", ".gif")
# Extensions of images before a conversion; "scan.001" has none of them.
_SUFFIX = re.compile(
    r"\.(jpe?g|jpe|jfif|jp2|png|bmp|webp|tiff?|npy|gif|hei[cf]|avif|tga|p[bgpn]m|dng|raw|cr2|nef)$"
)
_HINTS, _POOL = 10, 2_000  # missing images with a hint, and file names that are compared for it
_ANNOTATIONS = ("annotations", "labels")  # folders whose images lie beside them
_WALKED = 20_000  # files that are listed in the search for another image folder

# How a file differs from its name, in the order of the search.
_SEPARATORS = "by their names with / for \\"
_SPELLING = "by their names in other case or Unicode form"
_FOLDERS = "by their file names in other folders"
_STEMS = "by their stems, with other extensions"
_BESIDE = "by the names of their annotation files"


class Named(NamedTuple):
    """An image as an annotation names it."""

    name: str  # a path, which may be outdated
    near: str = ""  # the folder of the annotation file, below the image folder
    stem: str = ""  # of the annotation file, if it annotates one image


class Found(NamedTuple):
    """The path of an image below the image folder, or a fault."""

    path: str
    fault: str = ""
    is_missing: bool = False  # there is no such file; otherwise the fault is an ambiguous name


class ImageFiles:
    """The files below a folder. Directories are listed when they are needed, once each."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._sizes: dict[str, dict[str, int]] = {}
        self._by_stem: dict[str, list[str]] | None = None
        self._hints = 0

    def bytes_of(self, path: str) -> int | None:
        """Return the size of a file, or None if it does not exist."""
        parent, name = posixpath.split(path)
        if parent not in self._sizes:
            self._sizes[parent] = self._list(parent)
        return self._sizes[parent].get(name)

    def _list(self, parent: str) -> dict[str, int]:
        try:
            with os.scandir(self.folder / parent) as entries:
                return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
        except (OSError, ValueError):  # no such directory, or an invalid name
            return {}

    def find(self, wanted: Sequence[Named]) -> tuple[list[Found], tuple[str, ...]]:
        """Return the file of each name, and a line for each way in which names differ from files.

        A path that exists is used. Otherwise the only file that matches the name is used: apart
        from separators, case, Unicode form and folder, then also with another extension, then by
        the stem of the annotation file. A file that matches two names is used for neither.
        """
        paths = [self._exact(each.name) for each in wanted]
        taken = {path for path in paths if path}
        found = [Found(path) for path in paths]
        ways = [""] * len(found)
        for i, each in enumerate(wanted):
            if not paths[i]:
                found[i], ways[i] = self._search(each, taken)
        owners: dict[str, set[str]] = defaultdict(set)
        for each, way, file in zip(wanted, ways, found, strict=True):
            if way:
                owners[file.path].add(f"{each.name!r}")
        for i, path in enumerate(file.path for file in found):
            if ways[i] and len(owners[path]) > 1:
                names = " and ".join(sorted(owners[path])[:3])
                found[i] = Found("", f"{names} would all be {path}; correct their names")
                ways[i] = ""
        return found, tuple(self._notes(wanted, found, ways))

    def _notes(
        self, wanted: Sequence[Named], found: Sequence[Found], ways: Sequence[str]
    ) -> Iterator[str]:
        for way, count in Counter(filter(None, ways)).items():
            first = ways.index(way)
            yield (
                f"{self.folder}: found {count} of {len(wanted)} images {way}; the first, "
                f"{wanted[first].name!r}, is {found[first].path}"
            )

    def _exact(self, name: str) -> str:
        """Return the path below the folder that `name` states, or '' if it is not a file there."""
        parts, is_relative = split_path(name, self.folder)
        path = "/".join(parts)
        return path if is_relative and self.bytes_of(path) is not None else ""

    def _search(self, wanted: Named, taken: set[str]) -> tuple[Found, str]:
        name = split_path(wanted.name.replace("\\", "/"), self.folder)
        own = ImagePath((*name.parts[:-1], wanted.stem), is_relative=False)
        steps = ((name, _SPELLING, _has_name), (name, _STEMS, _has_stem), (own, _BESIDE, _has_stem))
        if "://" in wanted.name:  # a URL is downloaded by another command
            steps = ()
        for of_name, way, match in steps[: 3 if wanted.stem else 2]:
            files = self._candidates(of_name, wanted.near, match)
            best = _best([file for file in files if file not in taken], of_name, wanted.near)
            if len(best) > 1:
                fault = f"{len(best)} files match its name: {', '.join(best[:3])}; write its path"
                return Found("", fault), ""
            if best:
                return Found(best[0]), _describe(name, best[0]) if way == _SPELLING else way
        return Found("", self._missing(wanted.name, taken), is_missing=True), ""

    def _candidates(
        self, name: ImagePath, near: str, match: Callable[[str, str], bool]
    ) -> list[str]:
        if self._by_stem is None:
            self._by_stem = defaultdict(list)
            for path in _walk(self.folder):
                self._by_stem[_stem(_key(posixpath.basename(path)))].append(path)
        if not name.parts:
            return []
        last = _key(name.parts[-1])
        listed = dict.fromkeys((*self._by_stem.get(_stem(last), ()), *self._by_stem.get(last, ())))
        return [file for file in listed if match(file, last) and _may_be(file, name, near)]

    def _missing(self, name: str, taken: set[str]) -> str:
        hint = ""
        if self._hints < _HINTS and self._by_stem:
            self._hints += 1
            last = posixpath.basename(name.replace("\\", "/"))
            files = [file for of_stem in self._by_stem.values() for file in of_stem]
            free = [posixpath.basename(file) for file in files if file not in taken]
            hint = suggest(last, free[:_POOL])
        return f"the image is not in {self.folder}; add it or remove its record{hint}"


def find_folder(name: str, annotations: Path) -> Path | None:
    """Return the folder near an annotation file or folder in which `name` is the path of an image.

    Other data sets beside it are not searched; their images may have the same names.
    """
    root = annotations if annotations.is_dir() else annotations.parent
    root = root.parent if root.name.lower() in _ANNOTATIONS else root
    parts, is_relative = split_path(name.replace("\\", "/"), root)
    if not parts:
        return None
    *folders, last = map(_key, parts if is_relative else parts[-1:])
    for file in _walk(root, _WALKED):
        above = file.split("/")[:-1]
        start = len(above) - len(folders)
        if start >= 0 and [*map(_key, above[start:])] == folders and _has_stem(file, last):
            return root.joinpath(*above[:start]).absolute()
    return None


def _walk(folder: Path, limit: int | None = None) -> Iterator[str]:
    """Yield the paths of the files below a folder, relative to it. Hidden ones are skipped."""
    count = 0
    for parent, directories, files in os.walk(folder):
        directories[:] = sorted(name for name in directories if not name.startswith("."))
        below = Path(parent).relative_to(folder)
        for name in sorted(files):
            count += 1
            if limit is not None and count > limit:
                return
            if not name.startswith("."):
                yield (below / name).as_posix()


def _key(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


def _stem(key: str) -> str:
    return _SUFFIX.sub("", key)


def _has_name(file: str, last: str) -> bool:
    """Return whether a file has the key `last` of a file name."""
    return _key(posixpath.basename(file)) == last


def _has_stem(file: str, last: str) -> bool:
    """Return whether a file is an image that has `last` without its extension, if it has one."""
    key = _key(posixpath.basename(file))
    return key.endswith(_IMAGES) and _stem(key) in (last, _stem(last))


def _may_be(file: str, name: ImagePath, near: str) -> bool:
    """Return whether the folders of a file agree with a name: one is the end of the other, or the
    name is outdated.
    """
    folders = tuple(map(_key, file.split("/")[:-1]))
    named = tuple(map(_key, name.parts[:-1]))
    if not name.is_relative or _is_beside(file, near):
        return True
    return _is_tail(folders, named) or _is_tail(named, folders)


def _is_beside(file: str, near: str) -> bool:
    """Return whether a file is in the folder of the annotation file, if that is known."""
    return bool(near) and file.rpartition("/")[0] == near.strip("/")


def _is_tail(short: tuple[str, ...], whole: tuple[str, ...]) -> bool:
    return not short or whole[-len(short) :] == short


def _best(files: Sequence[str], name: ImagePath, near: str) -> list[str]:
    """Return the files whose folders are most like those of the name, or of its annotation."""

    def rank(file: str) -> tuple[bool, bool, int]:
        folders = [_key(part) for part in reversed(file.split("/")[:-1])]
        named = [_key(part) for part in reversed(name.parts[:-1])]
        common = next(
            (i for i, (a, b) in enumerate(zip(folders, named, strict=False)) if a != b),
            min(len(folders), len(named)),
        )
        return name.is_relative and folders == named, _is_beside(file, near), common

    ranks = [rank(file) for file in files]
    highest = max(ranks, default=None)
    return [file for file, its in zip(files, ranks, strict=True) if its == highest]


def _describe(name: ImagePath, file: str) -> str:
    """Return how the path of a file differs from a name with the same last part."""
    parts = tuple(file.split("/"))
    if name.parts == parts and name.is_relative:
        return _SEPARATORS
    return _SPELLING if tuple(map(_key, name.parts)) == tuple(map(_key, parts)) else _FOLDERS
