"""Exceptions for mistakes of the user, and parts of their messages."""

import difflib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any, get_args, get_origin

# Limits on what is printed: lines of a kind, and kinds; characters of a line beside its paths, of a
# quoted value, of a word, such as the name of a file, and of paths.
MAX_ALIKE, MAX_KINDS = 20, 20
MAX_LINE, MAX_VALUE, MAX_WORD, MAX_PATH = 300, 100, 255, 4096
_QUOTED = re.compile(r"(?<!\w)'[^']*'|\"[^\"]*\"")

_TYPES: dict[Any, tuple[Any, str]] = {
    bool: (bool, "True or False"),
    str: (str, "a string"),
    int: (int, "an integer"),
    float: (int | float, "a number"),
}


class UserError(Exception):
    """A mistake of the user.

    The message is one line that names the file, the record and the remedy. Entry points print it
    and exit with code 2.
    """


class AnnotationErrors(UserError):
    """All faults of a data set, one line each in `faults`. The message is their summary."""

    def __init__(self, faults: Sequence[str]):
        super().__init__("\n".join(summarize(faults)))
        self.faults = tuple(faults)


def printable(text: str) -> str:
    """Return text with control characters, line ends and invalid characters escaped."""
    if text.isprintable():
        return text
    return "".join(
        char
        if char.isprintable() or unicodedata.category(char) == "Zs"
        else char.encode("unicode_escape").decode()
        for char in text
    )


def shorten(text: str) -> str:
    """Return one printable line of at most MAX_LINE characters beside paths, which are not cut.

    Paths are words that contain a slash, MAX_PATH characters in all. Long quoted values, long words
    and the middle of the line are cut.
    """
    text = printable(text)
    if len(text) <= MAX_LINE:
        return text
    words = _QUOTED.sub(lambda match: _cut(match[0], MAX_VALUE), text).split(" ")
    words = [_cut(word, MAX_PATH if "/" in word else MAX_WORD) for word in words]
    paths = accumulate(len(word) if "/" in word else 0 for word in words)
    lengths = [
        0 if "/" in word and total <= MAX_PATH else len(word) + 1
        for word, total in zip(words, paths, strict=True)
    ]
    if sum(lengths) <= MAX_LINE:
        return " ".join(words)
    start, end = _leading(lengths, 2 * MAX_LINE // 3), _leading(lengths[::-1], MAX_LINE // 3 - 4)
    return " ".join([*words[:start], "...", *words[len(words) - end :]])


def _leading(lengths: Sequence[int], most: int) -> int:
    """Return how many of the first lengths have a sum of at most `most`."""
    sums = list(accumulate(lengths))
    return sum(length <= most for length in sums)


def _cut(word: str, most: int) -> str:
    return word if len(word) <= most else f"{word[:60]}...{word[-20:]}"


def listed(texts: Sequence[str], most: int) -> str:
    """Return the first `most` texts separated by commas, and the number of the others."""
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more


class FaultSummary:
    """Chooses the faults that are printed: at most MAX_ALIKE of a kind, and MAX_KINDS kinds.

    Faults are of one kind if they differ only in what is before the last colon, in quoted values,
    and in words with digits or parts of paths.
    """

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._first: dict[str, str] = {}
        self._others = 0  # faults of further kinds

    def add(self, fault: str) -> str:
        """Count a fault. Return the line to print, or '' if it is only counted."""
        kind = _kind(fault)
        if kind not in self._counts and len(self._counts) == MAX_KINDS:
            self._others += 1
            return ""
        self._counts[kind] = self._counts.get(kind, 0) + 1
        if self._counts[kind] > MAX_ALIKE:
            return ""
        line = shorten(fault)
        self._first.setdefault(kind, line)
        return line

    def rest(self) -> list[str]:
        """Return a line for each kind of which not all faults were printed."""
        lines = [
            f"{count - MAX_ALIKE:,} more like this: {self._first[kind]}"
            for kind, count in self._counts.items()
            if count > MAX_ALIKE
        ]
        return [*lines, f"{self._others:,} more of other kinds"] if self._others else lines


def _kind(fault: str) -> str:
    text = _QUOTED.sub("#", fault[-2 * MAX_LINE :]).rpartition(": ")[2]
    return " ".join("#" if re.search(r"[\d/\\_]|\.\w", word) else word for word in text.split())


def summarize(faults: Iterable[str]) -> list[str]:
    """Return the lines to print for faults, see `FaultSummary`."""
    summary = FaultSummary()
    lines = [line for fault in faults if (line := summary.add(fault))]
    return lines + summary.rest()


def wrong_type(value: object, kind: Any) -> str:
    """Return '' if a value has the type of a field, such as `tuple[float, ...]`, else a description
    of that type. Lists are accepted as tuples, and integers as numbers.
    """
    if get_origin(kind) is tuple:
        return _wrong_tuple(value, get_args(kind))
    accepted, description = _TYPES.get(kind, (object, ""))
    wrong_bool = isinstance(value, bool) and kind in (int, float)
    return "" if isinstance(value, accepted) and not wrong_bool else description


def _wrong_tuple(value: object, kinds: tuple[Any, ...]) -> str:
    """Do the same as `wrong_type` for a tuple with elements of `kinds`."""
    described = ["..." if kind is Ellipsis else wrong_type(None, kind) for kind in kinds]
    if isinstance(value, tuple | list):
        if Ellipsis in kinds:
            kinds = kinds[:1] * len(value)
        if len(kinds) == len(value) and not any(map(wrong_type, value, kinds)):
            return ""
    return f"a tuple ({', '.join(filter(None, described))})"


def compile_pattern(text: str, what: str) -> re.Pattern[str]:
    """Compile a regular expression of the user's. Raises UserError that names `what` it is."""
    try:
        return re.compile(text)
    except re.error as error:
        raise UserError(f"{what} {text!r} is not a regular expression: {error}") from None


def suggest(word: object, known: Iterable[str]) -> str:
    """Return "; did you mean ...?" with the closest known word, or '' if none is close."""
    close = difflib.get_close_matches(str(word), list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""
