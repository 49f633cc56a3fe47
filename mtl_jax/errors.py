"""Exceptions for mistakes of the user, and parts of their messages."""

import difflib
import re
from collections.abc import Iterable, Sequence


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


def wrong_type(value: object, like: object) -> str:
    """Return a description of the type that a value must have to be `like` the field's default.

    The description is '' if the type of the value is right.
    """
    if isinstance(like, tuple):  # a common mistake: ("a") is a string, ("a",) a tuple
        return "" if isinstance(value, tuple | list) else "a tuple, such as (1, 2) or (1,)"
    if isinstance(like, str):
        return "" if isinstance(value, str) else "a string"
    if isinstance(like, bool):
        return "" if isinstance(value, bool) else "True or False"
    kinds = int | float if isinstance(like, float) else int
    fits = isinstance(value, kinds) and not isinstance(value, bool)
    return "" if fits else "a number" if isinstance(like, float) else "an integer"


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
