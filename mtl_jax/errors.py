"""What a user did wrong, as the one line they read."""

from collections.abc import Sequence


class UserError(Exception):
    """A mistake of the user: one line that names file, record and mend. Entry points exit 2."""


class AnnotationErrors(UserError):
    """All the faults of a data set, a line each."""

    def __init__(self, faults: Sequence[str]):
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)
