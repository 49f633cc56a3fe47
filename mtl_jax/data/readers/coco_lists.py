"""What the formats of annotation tools are read into: COCO's lists, so that one set of checks and
one source serve them all.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from mtl_jax.errors import UserError
from mtl_jax.images.decode import image_size
from mtl_jax.images.geometry import Size

File = TypeVar("File")
THREADS = 8  # that read annotation files; they wait for the disk


class CocoLists(NamedTuple):
    """COCO's lists, of a file of its own or made of another format's."""

    path: Path  # the annotation file, or the folder that file names in faults are relative to
    images: list[Any]
    annotations: list[Any]
    categories: list[Any]
    faults: Sequence[str] = ()  # a line for each record that could not be made into one of them
    # False: things of these classes stand in the pictures without a label; or but for these ids
    exhaustive: bool | frozenset[int | str] = True


class Collector:
    """Gathers pictures and things one by one. Things are named by their place in their file, as
    faults name them; classes are numbered in the order of their names.
    """

    def __init__(self, path: Path):
        self._path = path
        self._pictures: dict[str, dict[str, Any]] = {}
        self._annotations: list[dict[str, Any]] = []
        self._faults: list[str] = []

    def add_picture(self, name: str, height: int = 0, width: int = 0, group: str = "") -> bool:
        """Add a picture by its path below the pictures' folder; without a size it is read from
        there. `group` names what it must not be parted from. Says whether it is new.
        """
        if name in self._pictures:
            self.add_fault(name, "is listed twice; list each picture once")
            return False
        size = {"height": height, "width": width} if height and width else {}
        groups = {"group": group} if group else {}
        self._pictures[name] = {"id": name, "file_name": name, **size, **groups}
        return True

    def add_thing(
        self,
        picture: str,
        record: str,
        category: str,
        shape: Mapping[str, Any],
        attributes: Mapping[str, Any] | None = None,
        crowd: bool = False,
    ) -> None:
        """Add a thing. `record` names it; `shape` holds COCO's `bbox`, `segmentation` or both."""
        self._annotations.append(
            {
                "id": record,
                "image_id": picture,
                "category_id": category,
                "iscrowd": int(crowd),
                "attributes": dict(attributes or {}),
                **shape,
            }
        )

    def add_fault(self, record: str, text: str) -> None:
        self._faults.append(fault_line(self._path, f"{record}: {text}"))

    def finish(self, classes: Iterable[str] = (), exhaustive: bool = True) -> CocoLists:
        """Give what was gathered; `classes` are there even if nothing is of them."""
        names = sorted({*classes, *(thing["category_id"] for thing in self._annotations)})
        numbers = {name: number for number, name in enumerate(names, 1)}
        for thing in self._annotations:
            thing["category_id"] = numbers[thing["category_id"]]
        categories = [{"id": number, "name": name} for name, number in numbers.items()]
        pictures = list(self._pictures.values())
        return CocoLists(
            self._path, pictures, self._annotations, categories, self._faults, exhaustive
        )


def single_class(categories: Sequence[str], where: str) -> str:
    """Name the class of a format that names none: `categories`' only one, else "object"."""
    if len(categories) > 1:
        raise UserError(f"{where}; name one class in categories, not {', '.join(categories)}")
    return categories[0] if categories else "object"


def find_files(folder: Path, suffix: str) -> list[Path]:
    """Give the files below a folder that end in `suffix`, sorted. Raises UserError without any."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    found = sorted(
        path
        for path in folder.rglob(f"*{suffix}")
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not found:
        raise UserError(f"{folder}: holds no {suffix} file")
    return found


def read_each(
    read: Callable[[Path], File], paths: Sequence[Path]
) -> Iterable[tuple[Path, File | ValueError]]:
    """Map `read` over files in threads, in order; give what ValueError it raised in its place."""

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
    """Give a picture's height and width; 0, 0 where the check of pictures will say what is
    wrong.
    """
    try:
        return image_size(path)
    except (ValueError, OSError):
        return 0, 0


def parse_json(data: bytes) -> Any:
    """Parse a JSON text. Raises ValueError that says where it is broken."""
    try:
        return json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8; save it again") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise ValueError(
            f"cut off or not JSON at {place} ({error.msg}); write or download it again"
        ) from None
    except (RecursionError, ValueError) as error:  # nested too deep; a number of 5,000 digits
        raise ValueError(f"cannot be parsed ({error}); write it again") from None


def fault_line(path: Path, text: str) -> str:
    """Make a fault one printable line, whatever the file's strings hold."""
    text = " ".join(text.split())
    text = text if len(text) <= 400 else f"{text[:300]} ... {text[-90:]}"
    return f"{path}: {text}".encode("utf-8", "backslashreplace").decode()
