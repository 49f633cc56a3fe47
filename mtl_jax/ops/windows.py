"""Square windows laid over a picture: proposals that need no look at it."""

import numpy as np
from jaxtyping import Float

from mtl_jax.types import Array


def sliding_windows(
    height: int, width: int, min_side: float, growth: float, step: float
) -> Float[Array, "P 4"]:
    """Give squares of sides `min_side`, times `growth` and so on up to the shorter side, which is
    the last; neighbours are `step` sides apart or nearer, the outer ones touch the borders.
    """
    largest = min(height, width)
    sides = [min(min_side, largest)]
    while sides[-1] * growth < largest:
        sides.append(sides[-1] * growth)
    if sides[-1] < largest:
        sides.append(largest)
    windows = []
    for side in sides:
        left, top = (
            np.linspace(0, length - side, 1 + int(np.ceil((length - side) / (step * side))))
            for length in (width, height)
        )
        x, y = (a.ravel() for a in np.meshgrid(left, top))
        windows.append(np.stack([x, y, x + side, y + side], -1))
    return np.concatenate(windows).astype(np.float32)
