"""Suggest the config lines that declare the attributes found in annotations."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

MANY = 20  # text with more different values is a name rather than a class


def suggest_attributes(annotations: Iterable[Any], known: set[str]) -> list[str]:
    """Return a line for each key of the annotations' `attributes` that is not in `known`."""
    found: dict[str, list[Any]] = {}
    for annotation in annotations:
        labels = annotation.get("attributes") if isinstance(annotation, Mapping) else None
        for name, value in labels.items() if isinstance(labels, Mapping) else ():
            if name not in known and value not in (None, ""):
                found.setdefault(name, []).append(value)
    return [f"{name}: {_declare(name, values)}" for name, values in sorted(found.items())]


def _declare(name: str, values: Sequence[Any]) -> str:
    kind: Mapping[str, Any] | None = None
    numbers = [number for number in map(_number, values) if number is not None]
    different = sorted({str(value) for value in values})
    all_numbers = len(numbers) == len(values)
    if all_numbers and {0, 1}.issuperset(numbers):
        kind = dict(kind="categorical", classes=("no", "yes"))
    elif all_numbers:
        low, high = math.floor(min(numbers)), math.ceil(max(numbers))
        kind = dict(kind="continuous", range=(low, max(high, low + 1)))
    elif all(isinstance(value, Mapping) for value in values):
        angles = [a for a in ("yaw", "pitch", "roll") if all(a in value for value in values)]
        kind = dict(kind="pose", angles=tuple(angles)) if angles else None
    elif 2 <= len(different) <= MANY:
        kind = dict(kind="categorical", classes=tuple(different))
    counted = f"{len(values)} labels with {len(different)} different values"
    if kind is None:
        example = different[0] if len(different[0]) <= 60 else f"{different[0][:57]}..."
        return f"{counted}, for example {example!r}"
    options = ", ".join(f"{key}={value!r}" for key, value in kind.items())
    return f'{counted}; to train on it: config.attributes["{name}"] = dict({options})'


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
