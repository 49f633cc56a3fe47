"""Annotations of any tool as COCO's lists, so that all formats share one check and one source."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from mtl_jax.data.readers.image_files import Found, ImageFiles, Named
from mtl_jax.errors import UserError, printable, shorten
from mtl_jax.images.decode import image_size
from mtl_jax.images.geometry import Size

File = TypeVar("File")
THREADS = 8  # threads that read annotation files, which mostly wait for the disk


class CocoLists(NamedTuple):
    """COCO's lists, read from a COCO file or made from another format."""

    path: Path  # the annotation file, or the folder to which file names in faults are relative
    images: list[Any]
    annotations: list[Any]
    categories: list[Any]
    faults: Sequence[str] = ()  # a line for each record that could not be converted
    # Whether all instances of these classes are annotated, or the ids of the images where they are.
    exhaustive: bool | frozenset[int | str] = True
    notes: Sequence[str] = ()  # what was done to read the records, one line each
    # The image id and the class of each instance that could not be converted.
    dropped: Sequence[tuple[int | str, str]] = ()
    licence: str = ""  # of the images


class Collector:
    """Builds `CocoLists` from images and instances that are added one by one.

    The id of an instance is its place in its file, as in faults. Classes are numbered in
    alphabetical order.
    """

    def __init__(self, path: Path):
        self._path = path
        self._images: dict[str, dict[str, Any]] = {}
        self._annotations: list[dict[str, Any]] = []
        self._faults: list[str] = []
        self._notes: tuple[str, ...] = ()
        self._dropped: list[tuple[str, str]] = []

    def find_images(self, folder: Path, named: Sequence[Named]) -> list[Found]:
        """Return the files of images below their folder."""
        found, notes = ImageFiles(folder).find(named)
        self._notes += notes
        return found

    def add_image(self, name: str, height: int = 0, width: int = 0, group: str = "") -> bool:
        """Add an image by its path below the image folder. Return False, and add a fault, if it was
        added before.

        Without a height and width in pixels, they are later read from the file. Images of one
        `group` stay in one split.
        """
        if name in self._images:
            self.add_fault(name, "is listed twice; list each image once")
            return False
        size = {"height": height, "width": width} if height and width else {}
        groups = {"group": group} if group else {}
        self._images[name] = {"id": name, "file_name": name, **size, **groups}
        return True

    def add_instance(
        self,
        image: str,
        record: str,
        category: str,
        shape: Mapping[str, Any],
        attributes: Mapping[str, Any] | None = None,
        crowd: bool = False,
    ) -> None:
        """Add an instance with the id `record`. `shape` has `bbox`, `segmentation` or both."""
        self._annotations.append(
            {
                "id": record,
                "image_id": image,
                "category_id": category,
                "iscrowd": int(crowd),
                "attributes": dict(attributes or {}),
                **shape,
            }
        )

    def add_fault(self, record: str, text: str) -> None:
        self._faults.append(fault_line(self._path, f"{record}: {text}"))

    def drop_instance(self, image: str, record: str, category: str, text: str) -> None:
        """Add the fault of an instance that cannot be converted, and count it."""
        self.add_fault(record, text)
        self._dropped.append((image, category))

    def finish(self, classes: Iterable[str] = (), exhaustive: bool = True) -> CocoLists:
        """Return the lists. `classes` are included even if no instance has them."""
        names = sorted({*classes, *(each["category_id"] for each in self._annotations)})
        numbers = {name: number for number, name in enumerate(names, 1)}
        for annotation in self._annotations:
            annotation["category_id"] = numbers[annotation["category_id"]]
        categories = [{"id": number, "name": name} for name, number in numbers.items()]
        images = list(self._images.values())
        return CocoLists(
            self._path,
            images,
            self._annotations,
            categories,
            self._faults,
            exhaustive,
            self._notes,
            self._dropped,
        )


def single_class(categories: Sequence[str], where: str) -> str:
    """Return the class for a format without classes: the only one of `categories`, or "object".

    Raises UserError, which begins with `where`, if there are several.
    """
    if len(categories) > 1:
        raise UserError(f"{where}; categories must name one class, got {', '.join(categories)}")
    return categories[0] if categories else "object"


def find_files(folder: Path, suffix: str) -> list[Path]:
    """Return the files below a folder that end in `suffix`, in any case, sorted. Hidden ones are
    skipped.

    Raises UserError if there are none.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() == suffix
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not found:
        raise UserError(f"{folder}: contains no {suffix} files")
    return found


def read_each(
    read: Callable[[Path], File], paths: Sequence[Path]
) -> Iterable[tuple[Path, File | ValueError]]:
    """Yield each path, in order, with the result of `read`, which runs in threads, or with the
    ValueError that it raises. An OSError becomes a ValueError.
    """

    def attempt(path: Path) -> File | ValueError:
        try:
            return read(path)
        except OSError as error:
            return ValueError(f"cannot be read ({error.strerror})")
        except ValueError as error:
            return error

    with ThreadPoolExecutor(THREADS) as pool:
        yield from zip(paths, pool.map(attempt, paths), strict=True)


def size_of(path: Path) -> Size:
    """Return the height and width of an image, or 0, 0 if it cannot be read, which the check of
    images reports.
    """
    try:
        return image_size(path)
    except (ValueError, OSError):
        return 0, 0


def parse_json(data: bytes) -> Any:
    """Parse JSON. Raises ValueError with the position of the error."""
    try:
        return json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8; save the file as UTF-8") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise ValueError(
            f"truncated or not JSON at {place} ({error.msg}); save or download the file again"
        ) from None
    except (RecursionError, ValueError) as error:  # nested too deep; a number of 5,000 digits
        raise ValueError(f"cannot be parsed ({error}); save the file again") from None


def fault_line(path: Path, text: str) -> str:
    """Return a fault as one printable line of limited length, for any strings in the file."""
    return f"{printable(str(path))}: {shorten(' '.join(text.split()))}"
