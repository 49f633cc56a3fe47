"""Statistics of a model's arrays, and warnings about its arrays and layers."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

HUGE = 1000.0  # larger absolute values are reported: matterport's bound for "overflow"
DEAD_SHARE = 0.5  # of a layer's channels; layers with more dead channels are reported


class ArrayNumbers(NamedTuple):
    name: str
    shape: tuple[int, ...]
    low: float
    high: float
    mean: float
    std: float
    alert: str  # '' if nothing is wrong


def array_numbers(arrays: Mapping[str, np.ndarray]) -> list[ArrayNumbers]:
    """Compute statistics of arrays.

    A kernel whose entries are all equal is reported, since it has learned nothing. Other arrays
    (biases, scales, means) are initialised that way.
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
        return f"an absolute value is above {HUGE:g}"
    if name.endswith("kernel") and values.std() < 1e-8:
        return "all entries are equal"
    return ""


def dead_channels(activations: Mapping[str, np.ndarray]) -> dict[str, tuple[int, int]]:
    """Return the numbers of dead and of all channels of layers where more than half are dead.

    A dead channel is 0 everywhere. `activations` contains the layers' outputs `[..., C]` by path.
    """
    result = {}
    for name, output in activations.items():
        flat = output.reshape(-1, output.shape[-1])
        dead = int((flat == 0).all(0).sum())
        if dead > DEAD_SHARE * flat.shape[1]:
            result[name] = dead, flat.shape[1]
    return result
