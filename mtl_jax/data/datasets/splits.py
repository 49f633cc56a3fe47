"""Split records into train, val and test by group, and read a stored split."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mtl_jax.data.duplicates import equal_in_any
from mtl_jax.data.readers.coco_lists import parse_json
from mtl_jax.data.records import Key
from mtl_jax.errors import UserError, suggest
from mtl_jax.io.regular import read_regular

NAMES = ("train", "val", "test")
Division = dict[str, dict[str, list[Key]]]  # split -> source -> its records


def split(
    groups: Sequence[str],
    fractions: Sequence[float] = (0.7, 0.15, 0.15),
    seed: int = 0,
) -> dict[str, list[int]]:
    """Return the positions of each split. All records of a group are in the same split.

    The groups are shuffled by `seed` and assigned so that each split has its fraction of the
    records, as near as whole groups allow. If there are enough groups, every split with a positive
    fraction has at least one. Raises UserError for invalid fractions (see `check_fractions`).
    """
    shares = check_fractions(fractions)
    order, member = np.unique(np.asarray(groups, str), return_inverse=True)
    sizes = np.bincount(member, minlength=len(order))
    shuffled = np.random.default_rng(seed).permutation(len(order))
    middle = (np.cumsum(sizes[shuffled]) - sizes[shuffled] / 2) / max(1, len(groups))
    chosen = np.searchsorted(np.cumsum(shares)[:-1], middle, side="right")
    _fill_empty(chosen, shares)
    owner = np.empty(len(order), int)
    owner[shuffled] = chosen
    return {name: np.flatnonzero(owner[member] == s).tolist() for s, name in enumerate(NAMES)}


def split_all(
    groups: Sequence[Sequence[str]],
    stamps: Sequence[Sequence[Sequence[str]]],
    fractions: Sequence[float] = (0.7, 0.15, 0.15),
    seed: int = 0,
) -> list[dict[str, list[int]]]:
    """Split several sources by their records' groups, each as `split` does.

    Sources that share records with equal stamps, such as faces and their copies in masks, are split
    jointly, so that these records are in the same split. `stamps` has one or more kinds of stamps,
    such as names; each kind has the stamps of the records of every source.
    """
    divided: list[dict[str, list[int]]] = [{} for _ in groups]
    for together in _sharing(stamps):
        if len(together) == 1:
            divided[together[0]] = split(groups[together[0]], fractions, seed)
            continue
        own = [f"{s} {group}" for s in together for group in groups[s]]
        of_these = [[stamp for s in together for stamp in kind[s]] for kind in stamps]
        joined = equal_in_any(own, *of_these)
        found = split([str(first) for first in joined], fractions, seed)
        start = 0
        for s in together:
            end = start + len(groups[s])
            divided[s] = {n: [i - start for i in at if start <= i < end] for n, at in found.items()}
            start = end
    return divided


def _sharing(stamps: Sequence[Sequence[Sequence[str]]]) -> list[list[int]]:
    """Group the indices of the sources that share records with equal stamps."""
    owner = [str(s) for s, of_source in enumerate(stamps[0]) for _ in of_source]
    first = equal_in_any(owner, *([stamp for each in kind for stamp in each] for kind in stamps))
    found: dict[int, list[int]] = {}
    start = 0
    for s, of_source in enumerate(stamps[0]):
        found.setdefault(first[start] if of_source else -1 - s, []).append(s)
        start += len(of_source)
    return list(found.values())


def check_name(split: str) -> None:
    """Raise UserError unless `split` is one of NAMES."""
    if split not in NAMES:
        raise UserError(f"split {split!r} must be {' or '.join(NAMES)}{suggest(split, NAMES)}")


def check_fractions(fractions: Sequence[float]) -> np.ndarray:
    """Return the fractions of NAMES as an array `[3]`. Raises UserError unless there are three,
    none is negative, and they sum to 1.
    """
    shares = np.asarray(fractions, float)
    if shares.shape != (len(NAMES),) or (shares < 0).any() or abs(shares.sum() - 1) > 1e-6:
        raise UserError(
            f"fractions {tuple(fractions)} must be {len(NAMES)} numbers ({', '.join(NAMES)}), none "
            "negative, that sum to 1"
        )
    return shares


def _fill_empty(chosen: np.ndarray, shares: np.ndarray) -> None:
    """Move one group from the largest split to each empty split with a positive fraction."""
    for s in np.flatnonzero(shares > 0):
        count = np.bincount(chosen, minlength=len(shares))
        if len(chosen) and not count[s] and count.max() > 1:
            chosen[np.flatnonzero(chosen == count.argmax())[-1]] = s


def read(path: Path) -> Division:
    """Read a stored split. Raises UserError if the file is malformed or lists a record in two
    splits.
    """
    try:
        found = parse_json(read_regular(path))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: cannot be read ({error}); remove it to create a new split"
        ) from None
    if not isinstance(found, dict) or not all(
        isinstance(sources, dict) and all(isinstance(keys, list) for keys in sources.values())
        for sources in found.values()
    ):
        raise UserError(
            f"{path}: expected split -> source -> records; remove it to create a new split"
        )
    seen: dict[tuple[str, Key], str] = {}
    for name, sources in found.items():
        for source, keys in sources.items():
            for key in keys:
                if not isinstance(key, int | str):
                    raise UserError(f"{path}: {source} contains {key!r}, which is not a record key")
                other = seen.setdefault((source, key), name)
                if other != name:
                    raise UserError(f"{path}: {source} {key!r} is in both {other} and {name}")
    return found


def positions(keys: Sequence[Key], wanted: Sequence[Key]) -> tuple[list[int], list[Key]]:
    """Return the positions of the wanted records in `keys`, ascending, and the wanted records that
    are not there.
    """
    place = {key: position for position, key in enumerate(keys)}
    return (
        sorted(place[key] for key in wanted if key in place),
        [key for key in wanted if key not in place],
    )
