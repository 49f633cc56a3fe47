"""What a user did wrong, as the one line they read."""

import difflib
from collections.abc import Iterable, Sequence


class UserError(Exception):
    """A mistake of the user: one line that names file, record and mend. Entry points exit 2."""


class AnnotationErrors(UserError):
    """All the faults of a data set, a line each."""

    def __init__(self, faults: Sequence[str]):
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


def wrong_type(value: object, like: object) -> str:
    """Say what a field's value must be, by the default that it is to be `like`; '' where it is."""
    if isinstance(like, tuple):  # ("a") is a text, and ("a",) a tuple
        return "" if isinstance(value, tuple | list) else "a tuple, as (1, 2) or (1,)"
    if isinstance(like, str):
        return "" if isinstance(value, str) else "text"
    if isinstance(like, bool):
        return "" if isinstance(value, bool) else "True or False"
    kinds = int | float if isinstance(like, float) else int
    fits = isinstance(value, kinds) and not isinstance(value, bool)
    return "" if fits else "a number" if isinstance(like, float) else "a whole number"


def suggest(word: object, known: Iterable[str]) -> str:
    """Give "; did you mean ...?" with the known word that is nearest, or '' where none is near."""
    close = difflib.get_close_matches(str(word), list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""
