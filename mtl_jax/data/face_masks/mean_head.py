"""Where the points of a face are that are not marked: a mean head, seen as the marked ones are."""

import numpy as np

# AFLW's points in units of half the distance of the eyes, from between them: x to the image's right
# when the head is seen from the front, y down, z to the front. Made symmetric; the shape that, seen
# from each face's own side, is nearest to the points of 131 faces of HELEN and AFW and 176 of
# YouTube Faces. They mark no ears: the lobes are placed by hand, about 140 mm apart and, from the
# eyes' outer corners, 70 mm behind and 35 mm down, where the eyes are 63 mm apart.
MEAN_HEAD = np.array(
    [(-1.84, -0.46, -0.24), (-1.18, -0.71, 0.26), (-0.48, -0.56, 0.45),
     (0.48, -0.56, 0.45), (1.18, -0.71, 0.26), (1.84, -0.46, -0.24),
     (-1.39, -0.02, -0.13), (-1.00, 0.00, 0.00), (-0.60, 0.04, 0.01),
     (0.60, 0.04, 0.01), (1.00, 0.00, 0.00), (1.39, -0.02, -0.13),
     (-2.20, 1.10, -2.40), (-0.42, 1.38, 0.31), (0.00, 1.16, 0.84), (0.42, 1.38, 0.31),
     (2.20, 1.10, -2.40), (-0.82, 2.07, -0.14), (0.00, 2.13, 0.23), (0.82, 2.07, -0.14),
     (0.00, 3.49, -0.35)]
)  # fmt: skip
_FEWEST = 8  # known points; with fewer of AFLW2000, masks are a tenth of the face and more away
_FLAT = 0.1  # of known points' length: less across it, and they are on one line
_COSINE, _SINE = 0.5, 0.75**0.5  # of 60 degrees
# From one of these turns the best one is reached: the head's two sides, and its front.
_STARTS = np.array(
    [[[c, 0, s], [0, 1, 0], [-s, 0, c]] for c, s in ((_COSINE, -_SINE), (1, 0), (_COSINE, _SINE))]
)
_STEPS, _STILL = 200, 1e-4  # most of them, and how little of a turn ends them


def complete(points: np.ndarray) -> np.ndarray:
    """Give AFLW's points `[21, 2]`, those that are missing (NaN) where the mean head has them.

    The head is turned, scaled and moved to lie nearest to the known points, by least squares.
    Raises ValueError where too few are known, or none away from the eyes, to tell how it is turned.
    """
    known = np.isfinite(points.sum(1))
    if known.sum() < _FEWEST or np.ptp(MEAN_HEAD[known, 1]) < 1:
        raise ValueError("too few of a face's points are known to place the others")
    middle, at = MEAN_HEAD[known].mean(0), points[known].mean(0)
    turn, scale = _nearest(MEAN_HEAD[known] - middle, points[known] - at)
    return np.where(known[:, None], points, at + scale * (MEAN_HEAD - middle) @ turn[:2].T)


def _nearest(head: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, float]:
    """Give the rotation `[3, 3]` and the scale by which points `[n, 3]` are seen nearest to
    `[n, 2]`; both are about their means.

    In turns, the points' distances from the camera are the head's, and the head lies nearest to
    the points in space. Raises ValueError where the points lie on one line.
    """
    spread = np.linalg.svd(points, compute_uv=False)
    if spread[1] <= _FLAT * spread[0]:
        raise ValueError("a face's points lie on one line")
    turn = _STARTS
    scale = np.linalg.norm(points) / np.linalg.norm(head @ turn[:, :2].mT, axis=(1, 2))
    for _ in range(_STEPS):
        depth = scale[:, None, None] * (head @ turn[:, 2:].mT)  # [3, n, 1]
        seen = np.concatenate([np.tile(points, (len(turn), 1, 1)), depth], -1)
        u, _, v = np.linalg.svd(seen.mT @ head)
        u[..., 2] *= np.linalg.det(u @ v)[:, None]  # no mirror image
        before, turn = turn, u @ v
        flat = head @ turn[:, :2].mT
        scale = (points * flat).sum((1, 2)) / (flat**2).sum((1, 2))
        if np.abs(turn - before).max() < _STILL:
            break
    gaps = points - scale[:, None, None] * (head @ turn[:, :2].mT)
    best = int(np.linalg.norm(gaps, axis=(1, 2)).argmin())
    return turn[best], float(scale[best])
