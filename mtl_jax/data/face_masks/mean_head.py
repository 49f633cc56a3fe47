"""Completion of missing face landmarks by a mean head, fitted to the known landmarks."""

import numpy as np

# AFLW's points in units of half the distance between the eyes, with the origin between them: x to
# the image's right for a frontal head, y down, z to the front. The symmetric shape whose views are
# nearest to the points of 131 faces of HELEN and AFW and 176 of YouTube Faces. These have no ears:
# the lobes are placed by hand, about 140 mm apart and, from the eyes' outer corners, 70 mm behind
# and 35 mm down, for eyes that are 63 mm apart.
MEAN_HEAD = np.array(
    [(-1.84, -0.46, -0.24), (-1.18, -0.71, 0.26), (-0.48, -0.56, 0.45),
     (0.48, -0.56, 0.45), (1.18, -0.71, 0.26), (1.84, -0.46, -0.24),
     (-1.39, -0.02, -0.13), (-1.00, 0.00, 0.00), (-0.60, 0.04, 0.01),
     (0.60, 0.04, 0.01), (1.00, 0.00, 0.00), (1.39, -0.02, -0.13),
     (-2.20, 1.10, -2.40), (-0.42, 1.38, 0.31), (0.00, 1.16, 0.84), (0.42, 1.38, 0.31),
     (2.20, 1.10, -2.40), (-0.82, 2.07, -0.14), (0.00, 2.13, 0.23), (0.82, 2.07, -0.14),
     (0.00, 3.49, -0.35)]
)  # fmt: skip
_FEWEST = 8  # required points; with fewer, masks on AFLW2000 are off by 0.1 of the face or more
_FLAT = 0.1  # of the known points' length; with less width they are on one line
_COSINE, _SINE = 0.5, 0.75**0.5  # of 60 degrees
# Initial rotations, the head's two sides and its front. One of them leads to the best rotation.
_STARTS = np.array(
    [[[c, 0, s], [0, 1, 0], [-s, 0, c]] for c, s in ((_COSINE, -_SINE), (1, 0), (_COSINE, _SINE))]
)
_STEPS, _STILL = 200, 1e-4  # maximum iterations, and the change of the rotation that ends them


def complete(points: np.ndarray) -> np.ndarray:
    """Return AFLW's points `[21, 2]`, with missing ones (NaN) taken from the mean head.

    The head is rotated, scaled and moved to fit the known points by least squares. Raises
    ValueError if the known points do not determine the rotation: too few, or none away from the
    eyes.
    """
    known = np.isfinite(points.sum(1))
    if known.sum() < _FEWEST or np.ptp(MEAN_HEAD[known, 1]) < 1:
        raise ValueError("too few landmarks of the face are known to place the others")
    middle, at = MEAN_HEAD[known].mean(0), points[known].mean(0)
    turn, scale = _nearest(MEAN_HEAD[known] - middle, points[known] - at)
    return np.where(known[:, None], points, at + scale * (MEAN_HEAD - middle) @ turn[:2].T)


def _nearest(head: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the rotation `[3, 3]` and the scale that project `head` `[n, 3]` nearest to `points`
    `[n, 2]`; both are centred.

    Two steps alternate: the points get the head's depths, and the head is fitted to the points in
    3D. Raises ValueError if the points are on one line.
    """
    spread = np.linalg.svd(points, compute_uv=False)
    if spread[1] <= _FLAT * spread[0]:
        raise ValueError("the landmarks of the face are on one line")
    turn = _STARTS
    scale = np.linalg.norm(points) / np.linalg.norm(head @ turn[:, :2].mT, axis=(1, 2))
    for _ in range(_STEPS):
        depth = scale[:, None, None] * (head @ turn[:, 2:].mT)  # [3, n, 1]
        seen = np.concatenate([np.tile(points, (len(turn), 1, 1)), depth], -1)
        u, _, v = np.linalg.svd(seen.mT @ head)
        u[..., 2] *= np.linalg.det(u @ v)[:, None]  # a rotation, not a reflection
        before, turn = turn, u @ v
        flat = head @ turn[:, :2].mT
        scale = (points * flat).sum((1, 2)) / (flat**2).sum((1, 2))
        if np.abs(turn - before).max() < _STILL:
            break
    gaps = points - scale[:, None, None] * (head @ turn[:, :2].mT)
    best = int(np.linalg.norm(gaps, axis=(1, 2)).argmin())
    return turn[best], float(scale[best])
