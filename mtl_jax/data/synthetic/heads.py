"""A head in three dimensions, drawn from any side in random light, with 21 landmarks."""

from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from mtl_jax.attributes.vocabulary import LANDMARKS
from mtl_jax.data.synthetic.faces import draw_face
from mtl_jax.data.synthetic.hair import Hair
from mtl_jax.data.synthetic.looks import Color, Look, Rng, brow, mouth, shade
from mtl_jax.data.synthetic.surfaces import Hits, Surface, rotation
from mtl_jax.types import Array

_GRID = 32  # cells per side where surfaces are intersected; linear in between
_FINE_BELOW = 90.0  # pixels of head height; smaller heads are drawn at twice the size
_HIDDEN_BY = 0.04  # a surface nearer by this hides a point; in half head heights
_NOSE = (
    ("bridge", "left", "tip"),
    ("bridge", "tip", "right"),
    ("left", "base", "tip"),
    ("base", "right", "tip"),
)


class Patch(NamedTuple):
    """A drawn head on a square of pixels, with its landmarks there."""

    pixels: np.ndarray  # [P, P, 3] uint8
    mask: np.ndarray  # [P, P] uint8, coverage of each pixel, 0 to 255
    points: np.ndarray  # [21, 2]
    visible: np.ndarray  # [21] bool: not hidden by the head itself


class Parts(NamedTuple):
    """The parts that stand out from the skull, and the landmarks, in the head's axes."""

    nose: dict[str, np.ndarray]  # corners [3] by name
    ears: tuple[np.ndarray, np.ndarray]  # the outlines [12, 3] of the image's left and right one
    points: np.ndarray  # [21, 3]


def build_parts(look: Look) -> Parts:
    """Place nose, ears and landmarks on the skull."""
    y = look.nose_y
    flat = [brow(look, side)[i] for side in (-1, 1) for i in (0, 4, 8)]
    flat += [
        (side * look.eye_x + i * look.eye_width, look.eye_y) for side in (-1, 1) for i in (-1, 0, 1)
    ]
    flat += [mouth(look)[i] for i in (0, 4, 8)] + [(0.0, -0.95)]
    corners = [
        (0.0, look.eye_y + 0.02),
        (0.0, y + 0.06),
        (-look.nose_width, y + 0.02),
        (look.nose_width, y + 0.02),
    ]
    skin = look.skull.lift(*np.array([*flat, *corners, (0.0, y - 0.02)]).T)
    skin[16:, 2] += (0, look.nose_length, 0.03, 0.03, 0.03)
    nose: dict[str, np.ndarray] = dict(
        zip(("bridge", "tip", "left", "right", "base"), skin[16:], strict=True)
    )
    ears = (_ear(look, -1), _ear(look, 1))
    middle = [ears[0].mean(0), nose["left"], nose["tip"], nose["right"], ears[1].mean(0)]
    return Parts(nose, ears, np.stack([*skin[:12], *middle, *skin[12:16]]))


_TURN = np.linspace(0, 2 * np.pi, 12, endpoint=False)


def _ear(look: Look, side: int) -> np.ndarray:
    y, out = look.eye_y - 0.14, look.ear * 0.55
    x = look.skull.width * float(look.skull.radius(np.array(y)))
    root = np.array([side * x * 0.99, y, look.skull.slant * y - 0.06])
    across = np.outer(0.7 * out + out * np.cos(_TURN), (side * 0.80, 0.0, -0.60))
    return root + across + np.outer(look.ear * np.sin(_TURN), (0.0, 1.0, 0.0))


class _Drawing:
    """The camera, the light and the pixels of a head; `finish` multiplies by the brightness."""

    def __init__(self, turn: np.ndarray, scale: float, side: int, rng: Rng) -> None:
        self.turn, self.scale, self.side = turn, scale, side
        light = np.array([rng.uniform(-1, 1), rng.uniform(-0.6, 1), rng.uniform(0.4, 1.2)])
        self.light = (light / np.linalg.norm(light)).astype(np.float32)
        self.ambient = float(rng.uniform(0.4, 0.75))
        cells = (((np.arange(_GRID) + 0.5) / _GRID - 0.5) * side / scale).astype(np.float32)
        self.x, self.y = np.meshgrid(cells, -cells)
        # Red, green, blue, and a channel that is not 0 where anything is drawn.
        self.color = np.zeros((side, side, 4), np.uint8)
        self.bright = np.zeros((side, side), np.uint8)

    def project(self, points: np.ndarray) -> np.ndarray:
        """Return the pixel positions `[n, 2]` of points `[n, 3]` of the head."""
        return (points @ self.turn.T)[:, :2] * (self.scale, -self.scale) + self.side / 2

    def lit(self, normal: Float[Array, "*S 3"]) -> UInt8[Array, "*S"]:
        """Return the brightness, 0 to 255, of surfaces with `normal` `[..., 3]` in camera axes."""
        direct = np.maximum(normal @ self.light, 0)
        return (255 * (self.ambient + (1 - self.ambient) * direct)).astype(np.uint8)

    def fill(self, points: np.ndarray, color: Color, normal: np.ndarray) -> None:
        """Fill the polygon of points `[n, 3]` with the given `normal`."""
        corners = self.sixteenths(points)
        cv2.fillPoly(self.color, [corners], (*color, 255), cv2.LINE_8, 4)
        cv2.fillPoly(self.bright, [corners], (int(self.lit(normal)),), cv2.LINE_8, 4)

    def line(self, points: np.ndarray, color: Color) -> None:
        """Draw a thin line through points `[n, 3]`."""
        thickness = 1 + self.side // 180
        cv2.polylines(
            self.color, [self.sixteenths(points)], False, (*color, 255), thickness, cv2.LINE_AA, 4
        )

    def wrap(
        self,
        surface: Surface,
        points: np.ndarray,
        inside: np.ndarray,
        pixels: np.ndarray,
        bright: np.ndarray,
    ) -> np.ndarray:
        """Draw an unrolled image `[h, w, 4]` on a surface; return where, `[P, P]` bool.

        `points` `[..., 3]` of the surface are visible on the grid where `inside` > 0, with the
        brightness `bright`, 0 to 255.
        """
        rows, columns = pixels.shape[:2]
        x = self._enlarge(points[..., 0] / surface.width)
        z = self._enlarge((points[..., 2] - surface.slant * points[..., 1]) / surface.depth)
        row = self._enlarge(
            (surface.top - points[..., 1]) * (rows / (surface.top + surface.bottom)) - 0.5
        )
        column = cv2.phase(-z, -x) * (columns / (2 * np.pi)) - 0.5
        seen = cv2.remap(pixels, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        where = (seen[..., 3] > 127) & (self._enlarge(inside) > 0)
        cv2.copyTo(seen, where.view(np.uint8), self.color)
        cv2.copyTo(cv2.resize(bright, (self.side, self.side)), where.view(np.uint8), self.bright)
        return where

    def _enlarge(self, grid: np.ndarray) -> np.ndarray:
        return cv2.resize(grid, (self.side, self.side))

    def sixteenths(self, points: np.ndarray) -> np.ndarray:
        return np.rint((self.project(points) - 0.5) * 16).astype(np.int32)

    def finish(self, fine: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the lit colours and the cover, 0 to 255, `fine` times smaller."""
        full = np.full_like(self.bright, 255)
        bright = cv2.merge([self.bright, self.bright, self.bright, full])
        lit = cv2.multiply(self.color, bright, scale=1 / 255)
        cover = (self.color[..., 3] > 0).astype(np.uint8) * np.uint8(255)
        lit = cv2.cvtColor(lit, cv2.COLOR_RGBA2RGB)
        if fine == 1:
            return lit, cover
        side = self.side // fine
        lit, cover = (
            cv2.resize(array, (side, side), interpolation=cv2.INTER_AREA) for array in (lit, cover)
        )
        # Averaged over covered pixels only, so that the empty background does not bleed in.
        weight = 255 / np.maximum(cover, 1).astype(np.float32)
        return cv2.multiply(lit, cv2.merge([weight] * 3), dtype=cv2.CV_8U), cover


def draw_head(
    look: Look, hair: Hair, pose: tuple[float, float, float], height: float, rng: Rng
) -> Patch:
    """Draw a head of `height` pixels from chin to crown, turned by (yaw, pitch, roll) degrees."""
    fine = 2 if height < _FINE_BELOW else 1
    reach = 1.12 * float(np.hypot(max(hair.shell.top, hair.shell.bottom), 0.62))
    side = int(np.ceil(reach * height))
    drawing = _Drawing(rotation(*pose), height / 2 * fine, side * fine, rng)
    parts = build_parts(look)
    skull = look.skull.cast(drawing.x, drawing.y, drawing.turn)
    shell = hair.shell.cast(drawing.x, drawing.y, drawing.turn, back=True)
    dim = np.full(skull.inside.shape, 255 * (0.1 + 0.55 * drawing.ambient), np.uint8)

    drawing.wrap(hair.shell, shell.back, shell.inside, hair.pixels, dim)
    ears: dict[int, np.ndarray] = dict(zip((-1, 1), parts.ears, strict=True))
    near = [sign for sign in ears if drawing.turn[2] @ (sign, 0, -0.1) > 0]
    for sign in (-1, 1):
        if sign not in near:
            _draw_ear(drawing, look, ears[sign], sign)
    _draw_skull(drawing, look, skull, draw_face(look, rng))
    for sign in near:
        _draw_ear(drawing, look, ears[sign], sign)
    front = drawing.wrap(
        hair.shell, shell.front, shell.inside, hair.pixels, drawing.lit(shell.normal)
    )
    nose = _draw_nose(drawing, look, parts.nose)

    visible = _unhidden(drawing, look, parts.points, nose, front)
    pixels, mask = drawing.finish(fine)
    return Patch(pixels, mask, drawing.project(parts.points) / fine, visible)


def _draw_skull(drawing: _Drawing, look: Look, hits: Hits, face: np.ndarray) -> None:
    while len(face) > 1.4 * 2 * drawing.scale:  # average first, to keep thin lines
        face = cv2.resize(face, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    face = cv2.cvtColor(face, cv2.COLOR_RGB2RGBA)
    drawing.wrap(look.skull, hits.front, hits.inside, face, drawing.lit(hits.normal))


def _draw_ear(drawing: _Drawing, look: Look, outline: np.ndarray, sign: int) -> None:
    toward = drawing.turn @ (sign * 0.60, 0.0, 0.80)
    drawing.fill(outline, look.skin, toward if toward[2] > 0 else -toward)
    middle = outline.mean(0)
    drawing.line(((outline - middle) * 0.55 + middle)[:9], shade(look.skin, 0.6))


def _draw_nose(drawing: _Drawing, look: Look, corners: dict[str, np.ndarray]) -> np.ndarray:
    """Draw the nose's sides that face the camera, far ones first; return where, `[P, P]` uint8."""
    where = np.zeros_like(drawing.bright)
    facing = []
    for names in _NOSE:
        triangle = np.stack([corners[name] for name in names])
        normal = drawing.turn @ np.cross(triangle[1] - triangle[0], triangle[2] - triangle[0])
        if normal[2] > 0:
            facing.append(
                (float(drawing.turn[2] @ triangle.sum(0)), "base" in names, triangle, normal)
            )
    for _, under, triangle, normal in sorted(facing, key=lambda side: side[0]):
        normal = 0.6 * normal / np.linalg.norm(normal) + 0.4 * drawing.turn[:, 2]
        drawing.fill(triangle, shade(look.skin, 0.72 if under else 1), normal)
        cv2.fillPoly(where, [drawing.sixteenths(triangle)], (255,), cv2.LINE_8, 4)
    if drawing.turn[2, 2] > 0:
        drawing.line(
            np.stack([corners["left"], corners["base"], corners["right"]]), shade(look.skin, 0.45)
        )
    return where


def _unhidden(
    drawing: _Drawing, look: Look, points: np.ndarray, nose: np.ndarray, hair: np.ndarray
) -> np.ndarray:
    """Return which landmarks `[21]` are not hidden by the skull, the nose or the hair."""
    seen = (points @ drawing.turn.T).astype(np.float32)
    hits = look.skull.cast(seen[:, 0], seen[:, 1], drawing.turn)
    clear = (hits.inside < 0) | (seen[:, 2] > hits.depth - _HIDDEN_BY)
    own = np.array([name.startswith("nose") for name in LANDMARKS])
    column, row = np.clip(drawing.project(points).astype(int), 0, drawing.side - 1).T
    return clear & (own | ~hair[row, column] & (nose[row, column] == 0))
