"""What all option dataclasses share: every fault is listed, in the same words."""

from collections.abc import Iterable, Iterator

from mtl_jax.errors import suggest


class Options:
    """Options that list all that is wrong with them. Raises ValueError, a line for each fault."""

    def faults(self) -> Iterator[str]:
        """Yield a line for each wrong field, which begins with its name, as `data.channels`."""
        yield from ()

    def __post_init__(self) -> None:
        if faults := list(self.faults()):
            raise ValueError("\n".join(faults))


def one_of(field: str, value: object, known: Iterable[str]) -> Iterator[str]:
    """Yield a fault where `value` is none of the `known` ones."""
    names = tuple(known)
    if value not in names:
        listed = ", ".join(map(repr, names))
        yield f"{field} is {value!r}; it must be one of {listed}{suggest(value, names)}"


def at_least(field: str, value: float, least: float) -> Iterator[str]:
    """Yield a fault where `value` is below `least`."""
    if not value >= least:
        yield f"{field} is {value!r}; it must be {least:g} or more"


def above(field: str, value: float, limit: float) -> Iterator[str]:
    """Yield a fault where `value` is not above `limit`."""
    if not value > limit:
        yield f"{field} is {value!r}; it must be greater than {limit:g}"


def between(field: str, value: float, low: float, high: float) -> Iterator[str]:
    """Yield a fault where `value` is not within `low` and `high`."""
    if not low <= value <= high:
        yield f"{field} is {value!r}; it must be between {low:g} and {high:g}"
