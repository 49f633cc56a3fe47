"""Square sliding windows over an image: proposals that do not depend on its content."""

import numpy as np
from jaxtyping import Float

from mtl_jax.types import Array


def sliding_windows(
    height: int, width: int, min_side: float, growth: float, step: float
) -> Float[Array, "P 4"]:
    """Return squares `[x1, y1, x2, y2]` in pixels whose sides grow from `min_side` by `growth`.

    The last side is the image's shorter side. Neighbours are at most `step` sides apart; the
    outermost squares touch the borders.
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
