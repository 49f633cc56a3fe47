"""Rounded bodies seen from any side: their intersections with lines of sight, and normals.

Axes of a body: x to the image's right when it is seen from the front, y up, z to the front; a head
is 2 high, from chin -1 to crown 1. Axes of the camera: x to the image's right, y up, z to the
camera; the projection is parallel.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mtl_jax.types import Array

# Iterations of Newton's method, after which the error is below a pixel.
_MIN_STEPS, _ROOT_STEPS = 3, 2


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Return the matrix from body to camera axes; degrees, signs as in `attributes.Pose`.

    The head nods first, then turns about the upright axis, then tilts in the image plane. (yaw,
    pitch) are the angles of the nose's direction; a mirrored image shows (-yaw, pitch, -roll).
    """
    y, p, r = np.radians([-yaw, -pitch, -roll])
    turn = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    nod = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    tilt = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return tilt @ turn @ nod


class Hits(NamedTuple):
    """Intersections of lines of sight `[...]`; if a line misses, `front` is its nearest point."""

    inside: np.ndarray  # [...] > 0 where the line meets the body; smooth, 0 on the outline
    front: np.ndarray  # [..., 3] the body's point nearest to the camera
    back: np.ndarray  # [..., 3] the point farthest from it
    normal: np.ndarray  # [..., 3] of length 1 at `front`, in camera axes
    depth: np.ndarray  # [...] camera z of `front`


@dataclass(frozen=True)
class Surface:
    """The points where (x / width)^2 + ((z - slant y) / depth)^2 = f(y).

    f falls from 1 at y = 0 to 0 at `top` and at -`bottom`. `upper` and `lower` are the weights of
    (y / end)^2, ^4 and ^8: an ellipsoid is (1, 0, 0), a drum (0, 0, 1). They sum to 1. f is
    concave, so a line enters and leaves the body once.
    """

    width: float
    depth: float
    top: float = 1.0
    bottom: float = 1.0
    upper: tuple[float, float, float] = (0.8, 0.2, 0.0)
    lower: tuple[float, float, float] = (0.5, 0.2, 0.3)
    slant: float = 0.0

    def profile(
        self, y: Float[Array, "*S"]
    ) -> tuple[Float[Array, "*S"], Float[Array, "*S"], Float[Array, "*S"]]:
        """Return f, f' and f'' at heights y."""
        table = np.array([(-1 / self.bottom, *self.lower), (1 / self.top, *self.upper)], np.float32)
        scale, a, b, c = table.T[:, (y > 0).view(np.int8)]
        s = np.minimum(y * scale, 1.3)
        q = s * s
        q3 = q * q * q
        bq, cq = b * q, c * q3
        value = 1 - q * (a + bq + cq)
        slope = (a + 2 * bq + 4 * cq) * s * scale * -2
        curve = (2 * a + 12 * bq + 56 * cq) * scale * scale * -1
        return value, slope, curve

    def radius(self, y: Float[Array, "*S"]) -> Float[Array, "*S"]:
        """Return the body's radius at heights y, in units of its width and depth."""
        return np.sqrt(np.maximum(self.profile(np.asarray(y, np.float32))[0], 1e-4))

    def angle(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the angle about the upright axis, in radians, of the front points (x, y)."""
        return np.arcsin(np.clip(np.asarray(x) / (self.width * self.radius(y)), -1, 1))

    def lift(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the front points `[..., 3]` at (x, y)."""
        z = self.slant * np.asarray(y) + self.depth * self.radius(y) * np.cos(self.angle(x, y))
        return np.stack(np.broadcast_arrays(x, y, z), -1)

    def cast(self, x: np.ndarray, y: np.ndarray, turn: np.ndarray, *, back: bool = False) -> Hits:
        """Intersect the body with the lines of sight through camera positions (x, y), each `[...]`.

        `turn` is the body's rotation. Without `back`, the far points are approximate.
        """
        turn = turn.astype(np.float32)
        start, along = x[..., None] * turn[0] + y[..., None] * turn[1], turn[2]
        sx, sy, sz = self._scaled(start)
        dx, dy, dz = self._scaled(along)
        t = -(sx * dx + sy * dy + sz * dz) / (dx * dx + dy * dy + dz * dz)
        round_curve = 2 * (dx * dx + dz * dz)

        def value(t: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            px, py, pz = sx + t * dx, sy + t * dy, sz + t * dz
            f, slope, curve = self.profile(py)
            return (
                px * px + pz * pz - f,
                2 * (px * dx + pz * dz) - slope * dy,
                round_curve - curve * dy * dy,
            )

        for _ in range(_MIN_STEPS):
            _, slope, curve = value(t)
            t = t - np.clip(slope / curve, -0.5, 0.5)
        least, _, curve = value(t)
        reach = np.sqrt(np.maximum(-least, 0) * 2 / curve)
        near, far = t + reach, t - reach
        hit = least < 0
        for _ in range(_ROOT_STEPS):
            gap, slope, _ = value(near)
            near = near - hit * gap / np.maximum(slope, 0.05)
            if back:
                gap, slope, _ = value(far)
                far = far - hit * gap / np.minimum(slope, -0.05)
        front = start + near[..., None] * along
        return Hits(
            -least, front, start + far[..., None] * along, self._normals(front) @ turn.T, near
        )

    def _scaled(
        self, points: Float[Array, "*S 3"]
    ) -> tuple[Float[Array, "*S"], Float[Array, "*S"], Float[Array, "*S"]]:
        x, y, z = np.moveaxis(points, -1, 0)
        return x / self.width, y, (z - self.slant * y) / self.depth

    def _normals(self, points: np.ndarray) -> np.ndarray:
        x, y, z = self._scaled(points)
        _, slope, _ = self.profile(y)
        normals = np.stack(
            [2 * x / self.width, -slope - 2 * z * self.slant / self.depth, 2 * z / self.depth], -1
        )
        return normals / (np.linalg.norm(normals, axis=-1, keepdims=True) + 1e-6)
