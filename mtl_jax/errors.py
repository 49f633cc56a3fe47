"""Exceptions for mistakes of the user, and parts of their messages."""

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any, get_args, get_origin

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
    """All faults of a data set, one line each."""

    def __init__(self, faults: Sequence[str]):
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


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
