"""Assign the records of opened sources to splits: compute a new assignment or use a stored one."""

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
    """Return the keys that identify a source's records in stored splits."""
    return [source.key(position) for position in range(len(source))]


def divide(
    blocks: Sequence[Mapping[str, Any]],
    sources: Sequence[Source],
    every_key: Sequence[Sequence[Key]],
    fractions: Sequence[float],
    seed: int,
) -> list[Divided]:
    """Split each source into train, val and test, except those whose block has a `split`.

    Logs a warning if divided sources share images with a source of one split. Raises UserError for
    invalid fractions.
    """
    divided = [
        {n: list(range(len(of))) if n == block["split"] else [] for n in splits.NAMES}
        for block, of in zip(blocks, every_key, strict=True)
    ]
    free = [i for i, block in enumerate(blocks) if not block["split"]]
    groups = [[sources[i].group(position) for position in range(len(sources[i]))] for i in free]
    names = [_names(block["name"], of) for block, of in zip(blocks, sources, strict=True)]
    stamps = {"images with the same names": names}
    if faces := _face_stamps(blocks, sources, every_key):
        # Of 6,843 UTKFace chips, 46 match one of 3,573 chips of FairFace; one is a true duplicate.
        stamps["similar faces (about 1 % are false matches)"] = faces
    of_free = [[kind[i] for i in free] for kind in stamps.values()]
    found = splits.split_all(groups, of_free, fractions, seed)
    for i, each in zip(free, found, strict=True):
        divided[i] = each
    for what, kind in stamps.items():
        _warn_shared(blocks, names, kind, what)
    return divided


def _warn_shared(
    blocks: Sequence[Mapping[str, Any]],
    names: Sequence[Sequence[str]],
    stamps: Sequence[Sequence[str]],
    what: str,
) -> None:
    """Warn if records of divided sources share stamps with a source that is all of one split."""
    triples = list(zip(blocks, names, stamps, strict=True))
    free = [pair for block, *of in triples if not block["split"] for pair in zip(*of, strict=True)]
    for block, _, of_block in triples:
        own = set(of_block if block["split"] else ())
        if shared := [name for name, stamp in free if stamp in own]:
            message = "%s is all in %s, but the sources that are divided have %d %s, such as %r"
            _log.warning(message, block["name"], block["split"], len(shared), what, min(shared))


def _names(own: str, source: Source) -> list[str]:
    """Return the names that records share with their copies in other sources: file names without
    extension. Numeric names are made unique with the source's name `own`.
    """
    names = [source.name(position) for position in range(len(source))]
    return [stem(name) if isinstance(name, str) else f"{own} {name}" for name in names]


def _face_stamps(
    blocks: Sequence[Mapping[str, Any]],
    sources: Sequence[Source],
    every_key: Sequence[Sequence[Key]],
) -> list[list[str]]:
    """Return stamps of all records that are equal for similar faces, with or without masks.

    Only needed if faces of a table, which have no file names, are used with another source of
    faces; otherwise returns an empty list.
    """
    every = [source.chips() for source in sources]
    chips = {i: found for i, found in enumerate(every) if found is not None}
    has_table = any(isinstance(key, int) for i in chips for key in every_key[i][:1])
    if len(chips) < 2 or not has_table or all(blocks[i]["split"] for i in chips):
        return []
    images = [image for found in chips.values() for image in found]
    alike = iter(near_duplicates(images, masked=True))
    return [
        [str(next(alike)) if i in chips else f"{i} {position}" for position in range(len(source))]
        for i, source in enumerate(sources)
    ]


def stem(name: str) -> str:
    """Remove the extensions of image files from a name; other extensions are kept."""
    while name.lower().endswith(EXTENSIONS):  # a.png.png may be the copy of a.png
        name = name.rpartition(".")[0]
    return name


def find_stored(
    name: str, of_source: Sequence[Key], stored: splits.Division, splits_file: Path | None
) -> Divided:
    """Return the positions of a source's records in each split, as `stored` in `splits_file`.

    Logs a warning for records that are missing or new. Raises UserError if the stored splits do not
    contain any of the source's records.
    """
    parts = {split: stored.get(split, {}).get(name, []) for split in splits.NAMES}
    if not any(parts.values()):
        raise UserError(f"{splits_file}: has no records of source {name!r}; use another --workdir")
    found, lost = {}, []
    for split, wanted in parts.items():
        found[split], missing = splits.positions(of_source, wanted)
        lost += missing
    if lost and not any(found.values()):
        raise UserError(f"{splits_file}: its records of {name!r} do not exist, such as {lost[0]!r}")
    if lost:
        _log.warning(
            "%s: %d records of %s do not exist, such as %r", splits_file, len(lost), name, lost[0]
        )
    used = {position for positions in found.values() for position in positions}
    if new := [key for position, key in enumerate(of_source) if position not in used]:
        message = "%s: %d records of %s are not in the file and not used, such as %r"
        _log.warning(message, splits_file, len(new), name, new[0])
    return found


def to_store(
    names: Sequence[str], every_key: Sequence[Sequence[Key]], divided: Sequence[Divided]
) -> splits.Division:
    """Convert the positions of each source's splits to record keys, for a run's splits file."""
    triples = list(zip(names, every_key, divided, strict=True))
    return {
        split: {name: [of[position] for position in found[split]] for name, of, found in triples}
        for split in splits.NAMES
    }
