"""Polygons in place of the round shapes that annotation tools draw."""

import numpy as np

CORNERS = 64


def ellipse(
    x: float, y: float, rx: float, ry: float, angle: float, height: int, width: int
) -> list[float]:
    """Give an ellipse as COCO's flat polygon of its area, cut at the border of the picture of
    `height` x `width` where its centre lies inside.

    `rx` lies along the direction `angle`, in radians clockwise from the picture's right.
    """
    turn = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    step = 2 * np.pi / CORNERS
    grow = np.sqrt(step / np.sin(step))  # a polygon with its corners on the ellipse is smaller
    along, across = grow * rx * np.cos(turn), grow * ry * np.sin(turn)
    points = np.stack(
        [
            x + along * np.cos(angle) - across * np.sin(angle),
            y + along * np.sin(angle) + across * np.cos(angle),
        ],
        axis=1,
    )
    if 0 <= x <= width and 0 <= y <= height:
        points = points.clip(0, [width, height])
    return points.ravel().tolist()
