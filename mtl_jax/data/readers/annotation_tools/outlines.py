"""Convert the circles and ellipses of annotation tools to polygons."""

import numpy as np

CORNERS = 64


def ellipse(
    x: float, y: float, rx: float, ry: float, angle: float, height: int, width: int
) -> list[float]:
    """Return an ellipse as COCO's flat polygon of equal area, clipped to the image of `height` x
    `width` if its centre lies inside.

    The centre and radii are in pixels. `rx` is the radius along the direction `angle`, in radians
    clockwise from the image's x axis.
    """
    turn = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    step = 2 * np.pi / CORNERS
    grow = np.sqrt(step / np.sin(step))  # a polygon with corners on the ellipse is smaller
    x, y, rx, ry, angle = map(float, (x, y, rx, ry, angle))  # NumPy has no large whole numbers
    with np.errstate(over="ignore", invalid="ignore"):  # the check of polygons reports infinities
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
