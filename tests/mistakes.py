"""Check what the message of a mistake names: file, record, field and value, never its wording."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from mtl_jax.errors import AnnotationErrors, UserError


def check_names(message: object, *parts: object) -> None:
    """Assert that `message` contains each of `parts` as whole words."""
    for part in map(str, parts):
        found = re.search(rf"(?<!\w){re.escape(part)}(?!\w)", str(message))
        assert found, f"{part!r} is not named in: {message}"


def check_faults(faults: Sequence[str], *expected: Sequence[object]) -> None:
    """Assert that there is one fault for each of `expected`, in this order, and that it names the
    parts.
    """
    assert len(faults) == len(expected), faults
    for fault, parts in zip(faults, expected, strict=True):
        check_names(fault, *parts)


@contextmanager
def refused(
    *parts: object, error: type[Exception] = UserError
) -> Iterator[pytest.ExceptionInfo[Exception]]:
    """Expect an `error` that names each of `parts`; a user's mistake is one line."""
    with pytest.raises(error) as caught:
        yield caught
    check_names(caught.value, *parts)
    if isinstance(caught.value, UserError) and not isinstance(caught.value, AnnotationErrors):
        assert "\n" not in str(caught.value)
