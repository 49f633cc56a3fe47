"""Divide the records of opened sources among the splits, anew or as a run's folder says."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtl_jax.data.datasets import splits
from mtl_jax.data.duplicates import near_duplicates
from mtl_jax.data.readers.folders import EXTENSIONS
from mtl_jax.data.records import Key, Source
from mtl_jax.errors import UserError

_log = logging.getLogger(__name__)

Divided = dict[str, list[int]]  # split -> the positions of a source's records


def keys(source: Source) -> list[Key]:
    """Give what a division calls each record of a source."""
    return [source.key(position) for position in range(len(source))]


def divide(
    blocks: Sequence[Mapping[str, Any]],
    sources: Sequence[Source],
    every_key: Sequence[Sequence[Key]],
    fractions: Sequence[float],
    seed: int,
) -> list[Divided]:
    """Divide each source, but one whose block says that it is wholly of one split. Raises UserError
    where the fractions are not what they must be.
    """
    divided = [
        {n: list(range(len(of))) if n == block["split"] else [] for n in splits.NAMES}
        for block, of in zip(blocks, every_key, strict=True)
    ]
    free = [i for i, block in enumerate(blocks) if not block["split"]]
    groups = [[sources[i].group(position) for position in range(len(sources[i]))] for i in free]
    names = [_names(block["name"], of) for block, of in zip(blocks, sources, strict=True)]
    stamps = {"pictures of its names": names}
    if looks := _looks(blocks, sources, every_key):
        # Of 6,843 UTKFace chips 46 look like one of 3,573 of FairFace, one truly.
        stamps["faces that look like its (one in a hundred may by chance)"] = looks
    of_free = [[kind[i] for i in free] for kind in stamps.values()]
    found = splits.split_all(groups, of_free, fractions, seed)
    for i, each in zip(free, found, strict=True):
        divided[i] = each
    for said, kind in stamps.items():
        _tell_parted(blocks, names, kind, said)
    return divided


def _tell_parted(
    blocks: Sequence[Mapping[str, Any]],
    names: Sequence[Sequence[str]],
    stamps: Sequence[Sequence[str]],
    said: str,
) -> None:
    """Warn of what is divided and has the stamps of a block that is wholly of one split."""
    triples = list(zip(blocks, names, stamps, strict=True))
    free = [pair for block, *of in triples if not block["split"] for pair in zip(*of, strict=True)]
    for block, _, of_block in triples:
        own = set(of_block if block["split"] else ())
        if shared := [name for name, stamp in free if stamp in own]:
            message = "%s is all %s, and %d %s stand in sources that are divided, as %r"
            _log.warning(message, block["name"], block["split"], len(shared), said, min(shared))


def _names(own: str, source: Source) -> list[str]:
    """Give what records and their copies in other sources are both called: their files' names
    without ending; a number is the source's own.
    """
    names = [source.name(position) for position in range(len(source))]
    return [stem(name) if isinstance(name, str) else f"{own} {name}" for name in names]


def _looks(
    blocks: Sequence[Mapping[str, Any]],
    sources: Sequence[Source],
    every_key: Sequence[Sequence[Key]],
) -> list[list[str]]:
    """Give faces that look alike, in masks or without, an equal stamp over all sources; nothing
    where no table, whose faces have no names, stands beside another source of faces.
    """
    every = [source.chips() for source in sources]
    chips = {i: found for i, found in enumerate(every) if found is not None}
    has_table = any(isinstance(key, int) for i in chips for key in every_key[i][:1])
    if len(chips) < 2 or not has_table or all(blocks[i]["split"] for i in chips):
        return []
    pictures = [picture for found in chips.values() for picture in found]
    alike = iter(near_duplicates(pictures, masked=True))
    return [
        [str(next(alike)) if i in chips else f"{i} {position}" for position in range(len(source))]
        for i, source in enumerate(sources)
    ]


def stem(name: str) -> str:
    """Take the endings of pictures off a name; what else it ends with is its own."""
    while name.lower().endswith(EXTENSIONS):  # a.png.png may be the copy of a.png
        name = name.rpartition(".")[0]
    return name


def find_stored(
    name: str, of_source: Sequence[Key], stored: splits.Division, splits_file: Path | None
) -> Divided:
    """Give a source's positions as `stored`, read from `splits_file`, has its records. Raises
    UserError where it knows none of them.
    """
    parts = {split: stored.get(split, {}).get(name, []) for split in splits.NAMES}
    if not any(parts.values()):
        raise UserError(f"{splits_file}: holds nothing of source {name!r}; use another --workdir")
    found, lost = {}, []
    for split, wanted in parts.items():
        found[split], missing = splits.positions(of_source, wanted)
        lost += missing
    if lost and not any(found.values()):
        raise UserError(f"{splits_file}: none of its records of {name!r} is there, as {lost[0]!r}")
    if lost:
        _log.warning("%s: %d records of %s are gone, as %r", splits_file, len(lost), name, lost[0])
    used = {position for positions in found.values() for position in positions}
    if new := [key for position, key in enumerate(of_source) if position not in used]:
        message = "%s: %d records of %s are new since it was written and not used, as %r"
        _log.warning(message, splits_file, len(new), name, new[0])
    return found


def to_store(
    names: Sequence[str], every_key: Sequence[Sequence[Key]], divided: Sequence[Divided]
) -> splits.Division:
    """Give the division of sources by their records' keys, as a run's folder keeps it."""
    triples = list(zip(names, every_key, divided, strict=True))
    return {
        split: {name: [of[position] for position in found[split]] for name, of, found in triples}
        for split in splits.NAMES
    }
