"""Find images that several sources contain."""

import posixpath
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mtl_jax.data.datasets.split_assignment import stem
from mtl_jax.data.records import Record, Source
from mtl_jax.errors import UserError

_COMPARED = 20  # pairs of equal names whose files and objects are compared


class _Shared(NamedTuple):
    number: int
    example: str
    differ: bool  # their objects of common classes differ


def shared_images(blocks: Sequence[Mapping[str, Any]], sources: Sequence[Source]) -> Iterator[str]:
    """Yield a line for each two sources that contain the same images.

    Images are the same if their files have the same name, without folders and extension, and the
    same content. Of many pairs with equal names, a part is compared.
    """
    places = [_places(source) for source in sources]
    for a, b in combinations(range(len(sources)), 2):
        names = sorted(places[a].keys() & places[b].keys())
        pairs = [(places[a][name], places[b][name]) for name in names]
        first, second = blocks[a], blocks[b]
        classes = _names(first, sources[a]), _names(second, sources[b])
        shared = _compare(sources[a], sources[b], pairs, *classes)
        if shared is None:
            continue
        about = "about " if len(pairs) > _COMPARED else ""
        text = (
            f"sources {first['name']} and {second['name']} have {about}{shared.number} images in "
        )
        text += f"common, such as {shared.example}"
        if first["split"] != second["split"] and first["split"] and second["split"]:
            text += f", in splits {first['split']} and {second['split']}"
        if shared.differ:
            text += "; objects that only one of them annotates are background in the other: merge "
            text += "their annotations, or set exhaustive=False in their blocks"
        yield text


def _places(source: Source) -> dict[str, int]:
    if source.is_drawn:
        return {}
    names = [source.name(position) for position in range(len(source))]
    return {
        posixpath.basename(stem(name)): position
        for position, name in enumerate(names)
        if isinstance(name, str)
    }


def _names(block: Mapping[str, Any], source: Source) -> tuple[str, ...]:
    return tuple(
        block["rename"].get(category.name, category.name) for category in source.categories
    )


def _compare(
    a: Source,
    b: Source,
    pairs: Sequence[tuple[int, int]],
    classes_a: Sequence[str],
    classes_b: Sequence[str],
) -> _Shared | None:
    if not pairs:
        return None
    chosen = np.unique(np.linspace(0, len(pairs) - 1, _COMPARED).astype(int))
    found = []
    for i, j in (pairs[place] for place in chosen):
        with suppress(UserError):  # raised again, or skipped, when its batch is due
            found.append((a[i], b[j]))
    same = [(one, other) for one, other in found if _is_same(one.image, other.image)]
    if not same:
        return None
    # Of other classes there can be unlabelled objects, see `Record.unlabelled`.
    common = {*classes_a} & {*classes_b}
    differ = any(
        _objects(one, classes_a, common) != _objects(other, classes_b, common)
        for one, other in same
    )
    number = round(len(pairs) * len(same) / len(found))
    return _Shared(number, same[0][0].file_name, differ)


def _is_same(one: object, other: object) -> bool:
    if not isinstance(one, Path) or not isinstance(other, Path):
        return False
    try:
        if one.samefile(other):
            return True
        same_size = one.stat().st_size == other.stat().st_size
        return same_size and one.read_bytes() == other.read_bytes()
    except OSError:
        return False


def _objects(
    record: Record, classes: Sequence[str], common: Container[str]
) -> set[tuple[object, ...]]:
    """Return the class and the rounded box of each instance of a common class."""
    found = ((classes[i.label - 1], *map(round, i.box)) for i in record.instances)
    return {each for each in found if each[0] in common}
