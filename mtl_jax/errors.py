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


def suggest(word: object, known: Iterable[str]) -> str:
    """Give "; did you mean ...?" with the known word that is nearest, or '' where none is near."""
    close = difflib.get_close_matches(str(word), list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""
