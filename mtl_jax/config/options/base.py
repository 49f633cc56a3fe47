"""Base class of the option dataclasses, and checks with uniform messages."""

from collections.abc import Iterable, Iterator

from mtl_jax.errors import suggest


class Options:
    """Options that are checked on creation. Raises ValueError with one line for each fault."""

    def faults(self) -> Iterator[str]:
        """Yield one line per invalid field, starting with its name, such as `data.channels`."""
        yield from ()

    def __post_init__(self) -> None:
        if faults := list(self.faults()):
            raise ValueError("\n".join(faults))


def one_of(field: str, value: object, known: Iterable[str]) -> Iterator[str]:
    """Yield a fault if `value` is not one of `known`."""
    names = tuple(known)
    if value not in names:
        listed = ", ".join(map(repr, names))
        yield f"{field} is {value!r}; it must be one of {listed}{suggest(value, names)}"


def at_least(field: str, value: float, least: float) -> Iterator[str]:
    """Yield a fault if `value` is less than `least`, or NaN."""
    if not value >= least:
        yield f"{field} is {value!r}; it must be at least {least:g}"


def each_at_least(part: str, options: Options, least: float, *names: str) -> Iterator[str]:
    """Yield a fault for each field in `names` of `options`, `config.PART`, that is less than
    `least`.
    """
    for name in names:
        yield from at_least(f"{part}.{name}", vars(options)[name], least)


def each_fraction(part: str, options: Options, *names: str) -> Iterator[str]:
    """Yield a fault for each field in `names` of `options`, `config.PART`, not between 0 and 1."""
    for name in names:
        yield from between(f"{part}.{name}", vars(options)[name], 0, 1)


def above(field: str, value: float, limit: float) -> Iterator[str]:
    """Yield a fault if `value` is not greater than `limit`."""
    if not value > limit:
        yield f"{field} is {value!r}; it must be greater than {limit:g}"


def between(field: str, value: float, low: float, high: float) -> Iterator[str]:
    """Yield a fault if `value` is not between `low` and `high`, inclusive."""
    if not low <= value <= high:
        yield f"{field} is {value!r}; it must be between {low:g} and {high:g}"
