"""A model's arrays in numbers, and what is wrong with them or with what its layers give."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

HUGE = 1000.0  # an entry beyond it: matterport's bound for "overflow"
DEAD_SHARE = 0.5  # of a layer's channels that give 0 everywhere on a picture


class ArrayNumbers(NamedTuple):
    name: str
    shape: tuple[int, ...]
    low: float
    high: float
    mean: float
    std: float
    alert: str  # '' where nothing is wrong


def array_numbers(arrays: Mapping[str, np.ndarray]) -> list[ArrayNumbers]:
    """Measure arrays. A kernel whose entries are all alike has learned nothing; biases, scales and
    means begin so.
    """
    result = []
    for name, array in arrays.items():
        values = np.asarray(array, np.float64)
        found = ArrayNumbers(
            name, values.shape, values.min(), values.max(), values.mean(), values.std(), ""
        )
        result.append(found._replace(alert=_alert(name, values)))
    return result


def _alert(name: str, values: np.ndarray) -> str:
    if not np.isfinite(values).all():
        return f"{(~np.isfinite(values)).sum()} entries are not finite"
    if np.abs(values).max() > HUGE:
        return f"beyond {HUGE:g}"
    if name.endswith("kernel") and values.std() < 1e-8:
        return "all entries are alike: dead?"
    return ""


def dead_channels(activations: Mapping[str, np.ndarray]) -> dict[str, tuple[int, int]]:
    """Give how many channels of how many are 0 everywhere, of each layer (its output `[..., C]` by
    its path) where more than half are.
    """
    result = {}
    for name, output in activations.items():
        flat = output.reshape(-1, output.shape[-1])
        dead = int((flat == 0).all(0).sum())
        if dead > DEAD_SHARE * flat.shape[1]:
            result[name] = dead, flat.shape[1]
    return result
