"""Checks of error messages: the file, record, field and value that they name, not their wording."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from mtl_jax.errors import AnnotationErrors, UserError


def unnamed(message: object, parts: Sequence[object]) -> list[str]:
    """Return the `parts` that `message` does not contain as whole words."""
    return [
        part
        for part in map(str, parts)
        if not re.search(rf"(?<!\w){re.escape(part)}(?!\w)", str(message))
    ]


def check_names(message: object, *parts: object) -> None:
    """Assert that `message` contains all `parts` as whole words."""
    missing = unnamed(message, parts)
    assert not missing, f"{missing} not named in: {message}"


def check_faults(faults: Sequence[str], *expected: Sequence[object]) -> None:
    """Assert that there is one fault for each of `expected`, in order, and that it names the
    expected parts.
    """
    assert len(faults) == len(expected), faults
    for fault, parts in zip(faults, expected, strict=True):
        check_names(fault, *parts)


@contextmanager
def refused(
    *parts: object, error: type[Exception] = UserError
) -> Iterator[pytest.ExceptionInfo[Exception]]:
    """Assert that the block raises an `error` that names all `parts`; a UserError is one line."""
    with pytest.raises(error) as caught:
        yield caught
    check_names(caught.value, *parts)
    if isinstance(caught.value, UserError) and not isinstance(caught.value, AnnotationErrors):
        assert "\n" not in str(caught.value)
