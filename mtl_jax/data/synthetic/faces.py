"""The unrolled skin of a drawn head, with everything flat on it: eyes, lips, wrinkles, beard.

Column = angle about the upright axis, row = height (see `surfaces`).
"""

import cv2
import numpy as np

from mtl_jax.data.synthetic.looks import Color, Look, Rng, arc, brow, from_hsv, mix, mouth, shade
from mtl_jax.data.synthetic.surfaces import Surface

SKIN_SIZE = (256, 512)  # rows from crown to chin, columns once around


class Skin:
    """The unrolled image; drawing uses front-view positions (x, y) and is done in `finish`."""

    def __init__(self, skull: Surface, color: Color) -> None:
        self.skull = skull
        self.pixels = np.empty((*SKIN_SIZE, 3), np.uint8)
        row = np.tile(np.rint(color).astype(np.uint8), SKIN_SIZE[1])
        self.pixels.reshape(SKIN_SIZE[0], -1)[:] = row
        # points, colour, thickness (0: a filled polygon)
        self._waiting: list[tuple[np.ndarray, Color, int]] = []

    def line(self, xy: np.ndarray, color: Color, width: float) -> None:
        """Draw a line; `width` is in half head heights."""
        self._waiting.append((xy, color, max(1, round(width * SKIN_SIZE[0] / 2))))

    def fill(self, xy: np.ndarray, color: Color) -> None:
        """Fill a polygon."""
        self._waiting.append((xy, color, 0))

    def dots(self, xy: np.ndarray, factor: np.ndarray) -> None:
        """Multiply the 2 x 2 pixels around each point `[n, 2]` by its factor `[n]`."""
        self.finish()
        column, row = (self._place(xy) // 16).T
        for dx in (0, 1):
            for dy in (0, 1):
                y, x = np.clip(row + dy, 0, SKIN_SIZE[0] - 1), (column + dx) % SKIN_SIZE[1]
                changed = np.clip(self.pixels[y, x] * factor[:, None], 0, 255)
                self.pixels[y, x] = changed.astype(np.uint8)

    def finish(self) -> np.ndarray:
        """Draw all waiting lines and polygons, and return the pixels."""
        if self._waiting:
            ends = np.cumsum([len(xy) for xy, _, _ in self._waiting])
            placed = self._place(np.concatenate([xy for xy, _, _ in self._waiting]))
            for (xy, color, thickness), end in zip(self._waiting, ends, strict=True):
                points = placed[end - len(xy) : end]
                if thickness:
                    cv2.polylines(self.pixels, [points], False, color, thickness, cv2.LINE_AA, 4)
                else:
                    cv2.fillPoly(self.pixels, [points], color, cv2.LINE_AA, 4)
            self._waiting = []
        return self.pixels

    def _place(self, xy: np.ndarray) -> np.ndarray:
        """Return the pixel positions of points `[n, 2]` in sixteenths, for OpenCV's shift=4."""
        xy = np.asarray(xy, np.float32)
        column = (self.skull.angle(xy[:, 0], xy[:, 1]) / (2 * np.pi) + 0.5) * SKIN_SIZE[1]
        row = (1 - xy[:, 1]) / 2 * SKIN_SIZE[0]
        return np.rint((np.stack([column, row], -1) - 0.5) * 16).astype(np.int32)


def draw_face(look: Look, rng: Rng) -> np.ndarray:
    """Draw the unrolled skin `[*SKIN_SIZE, 3]` with everything flat on it."""
    skin = Skin(look.skull, look.skin)
    _draw_freckles(skin, look, rng)
    _draw_wrinkles(skin, look, rng)
    _draw_beard(skin, look, rng)
    _draw_eyes(skin, look, rng)
    _draw_brows(skin, look, rng)
    _draw_mouth(skin, look, rng)
    if rng.random() < 0.12:
        _draw_glasses(skin, look, rng)
    return skin.finish()


def _depth(rng: Rng, age: float, start: float) -> float:
    """Return the darkness, 0 to about 0.5, of a wrinkle that begins at the age `start`."""
    return float(np.clip((age - start) / (95 - start), 0, 1)) * 0.42 + (0.06 if age > start else 0)


def _draw_wrinkles(skin: Skin, look: Look, rng: Rng) -> None:
    age = look.aged(rng)  # across the forehead
    count = int(np.clip((age - 18) / 13, 0, 5))
    color = shade(look.skin, 1 - _depth(rng, age, 22))
    for i in range(count):
        y = look.brow_y + 0.14 + 0.085 * i
        reach = 0.36 - 0.03 * i + 0.05 * rng.random()
        skin.line(
            arc(-reach, y, reach, y + rng.normal(0, 0.012), rng.normal(0.02, 0.015)), color, 0.026
        )
    crow, bags, fold, marionette, cheek = (look.aged(rng) for _ in range(5))
    frown = int(np.clip((look.aged(rng) - 35) / 25, 0, 2))
    for side in (-1, 1):
        x, y = side * look.eye_x, look.eye_y
        outer = x + side * (look.eye_width + 0.03)
        color = shade(look.skin, 1 - _depth(rng, crow, 25))
        for i in range(int(np.clip((crow - 25) / 14, 0, 4))):
            rise = (0.05, -0.03, 0.11, -0.1)[i]
            skin.line(arc(outer, y + rise / 3, outer + side * 0.13, y + rise, 0.01), color, 0.022)
        color = shade(look.skin, 1 - _depth(rng, bags, 30))
        for i in range(int(np.clip((bags - 28) / 20, 0, 3))):
            low, half = y - look.eye_open - 0.03 - 0.05 * i, look.eye_width * (1 - 0.12 * i)
            skin.line(arc(x - half, low, x + half, low, -0.05), color, 0.022)
        depth = _depth(rng, fold, 18) + (0.08 if look.smile == 2 else 0)
        start, end = side * (look.nose_width + 0.03), side * (look.mouth_width + 0.07)
        length = float(np.clip((fold - 10) / 60, 0, 1))
        low = look.nose_y + 0.05 + (look.mouth_y - look.nose_y - 0.08) * length
        if length > 0:
            skin.line(
                arc(start, look.nose_y + 0.06, start + (end - start) * length, low, 0.03),
                shade(look.skin, 1 - depth),
                0.026,
            )
        if marionette > 48:
            low = look.mouth_y - 0.05 - 0.16 * min((marionette - 48) / 40, 1)
            line = arc(
                side * (look.mouth_width + 0.03),
                look.mouth_y - 0.02,
                side * (look.mouth_width + 0.05),
                low,
                0,
            )
            skin.line(line, shade(look.skin, 1 - _depth(rng, marionette, 40)), 0.024)
        color = shade(look.skin, 1 - _depth(rng, cheek, 45))
        for i in range(int(np.clip((cheek - 52) / 12, 0, 3))):
            far = side * (look.mouth_width + 0.17 + 0.07 * i)
            skin.line(
                arc(far, look.nose_y + 0.05 - 0.04 * i, far * 0.96, look.mouth_y - 0.02, 0),
                color,
                0.02,
            )
        if frown > (side > 0):
            line = arc(side * 0.05, look.brow_y - 0.06, side * 0.06, look.brow_y + 0.09, 0)
            skin.line(line, shade(look.skin, 0.72), 0.022)


def _draw_freckles(skin: Skin, look: Look, rng: Rng) -> None:
    """Draw freckles at any age, and the spots of old skin, which are larger."""
    if rng.random() < 0.2:
        spots = np.stack([rng.uniform(-0.45, 0.45, 40), rng.uniform(-0.45, 0.1, 40)], -1)
        skin.dots(spots, rng.uniform(0.7, 0.9, 40))
    for _ in range(int(np.clip((look.aged(rng) - 52) / 5, 0, 9))):
        x = rng.uniform(-0.55, 0.55)
        y = rng.uniform(0.25, 0.75) if rng.random() < 0.5 else rng.uniform(-0.6, -0.1)
        half = rng.uniform(0.02, 0.045)
        turn = np.linspace(0, 2 * np.pi, 8, endpoint=False)
        spot = np.stack([x + half * np.cos(turn), y + 0.8 * half * np.sin(turn)], -1)
        skin.fill(spot, shade(look.skin, rng.uniform(0.68, 0.85)))


def _draw_eyes(skin: Skin, look: Look, rng: Rng) -> None:
    iris = from_hsv(rng.uniform(5, 120), rng.uniform(40, 180), rng.uniform(50, 150))
    gaze_x, gaze_y = rng.normal(0, 0.03, 2) * look.eye_width / 0.14
    lashes, liner = look.gendered(rng), look.gendered(rng)
    lid_fold, droop = look.gendered(rng), float(np.clip((look.aged(rng) - 40) / 50, 0, 1))
    white = (235.0, 232.0, 228.0)
    for side in (-1, 1):
        x, y, wide, high = side * look.eye_x, look.eye_y, look.eye_width, look.eye_open
        upper = arc(x - wide, y, x + wide, y, high)
        lower = arc(x + wide, y, x - wide, y, -0.75 * high)
        skin.fill(np.concatenate([upper, lower]), white)
        radius = min(0.085 + 0.015 * (1 - look.grown), 0.95 * wide)
        turn = np.linspace(0, 2 * np.pi, 14, endpoint=False)
        ball = np.stack(
            [x + gaze_x + radius * np.cos(turn), y + gaze_y + radius * np.sin(turn)], -1
        )
        for part, color in ((1.0, iris), (0.5, (15.0, 12.0, 12.0))):
            round_part = (ball - ball.mean(0)) * part + ball.mean(0)
            low = np.interp(round_part[:, 0], lower[::-1, 0], lower[::-1, 1])
            high_edge = np.interp(round_part[:, 0], upper[:, 0], upper[:, 1])
            round_part[:, 1] = np.clip(round_part[:, 1], low, high_edge)
            skin.fill(round_part, color)
        lid = shade(look.skin, 0.45)
        skin.line(lower, shade(look.skin, 0.7), 0.016)
        skin.line(upper, shade(lid, 0.5) if liner > 0 else lid, 0.05 if liner > 0.5 else 0.026)
        if lashes > 0:
            for i in range(4):
                root = (
                    upper[3 + (i if side > 0 else 2 - i)] if i < 3 else upper[8 if side > 0 else 0]
                )
                tip = root + np.array((side * (0.03 + 0.015 * i), 0.075 + 0.01 * i))
                skin.line(np.array([root, tip]), (20.0, 15.0, 15.0), 0.018)
        if droop > 0.3:  # the fold hangs over the outer corner
            line = arc(
                x - side * wide * 0.7,
                y + high + 0.05,
                x + side * (wide + 0.05),
                y + 0.05 - 0.07 * droop,
                0.02,
            )
            skin.line(line, shade(look.skin, 0.68), 0.024)
        elif lid_fold > 0:
            skin.line(
                arc(x - wide, y + 0.03, x + wide, y + 0.03, high + 0.035),
                shade(look.skin, 0.7),
                0.018,
            )


def _draw_brows(skin: Skin, look: Look, rng: Rng) -> None:
    age, female = look.aged(rng), look.gendered(rng)
    thick = np.clip(
        0.034 - 0.013 * female * look.grown + 0.012 * (look.grown - 0.5) + rng.normal(0, 0.004),
        0.012,
        0.08,
    )
    color = shade(mix(look.hair, look.skin, 0.15 + 0.35 * (1 - look.grown)), 0.55)
    if age > 60 and rng.random() < 0.7:
        color = mix(color, (190.0, 190.0, 190.0), min((age - 50) / 45, 0.9))
    taper = 1 - 0.55 * np.linspace(0, 1, 9)
    for side in (-1, 1):
        line, half = brow(look, side), thick * (taper if side > 0 else taper[::-1])
        above, below = line + np.stack([0 * half, half], -1), line - np.stack([0 * half, half], -1)
        skin.fill(np.concatenate([above, below[::-1]]), color)
        for _ in range(int(np.clip((age - 45) / 9, 0, 5)) if female < 0.3 else 0):  # bushy
            root = line[rng.integers(1, 8)]
            skin.line(root + np.array([(0, 0), (side * 0.03, thick + 0.03)]), color, 0.012)


def _draw_mouth(skin: Skin, look: Look, rng: Rng) -> None:
    line, female = mouth(look), look.gendered(rng)
    thin = float(np.clip((look.aged(rng) - 40) / 60, 0, 1))
    full = float(np.clip(0.052 + 0.016 * female - 0.026 * thin + rng.normal(0, 0.005), 0.014, 0.1))
    red = float(np.clip(0.35 + 0.3 * look.gendered(rng), 0.1, 0.9))
    color = mix(
        shade(look.skin, 0.8), from_hsv(rng.uniform(165, 180), 170, rng.uniform(110, 210)), red
    )
    t = np.linspace(-1, 1, 9)
    bow = full * (1 - t**2) * (1 + 0.25 * np.cos(3 * np.pi * t)) / 1.1
    open_by = (0.1 + rng.normal(0, 0.012)) * (1 - t**2) if look.smile == 2 else 0 * t
    upper = line + np.stack([0 * t, bow], -1)
    lower = line - np.stack([0 * t, 1.25 * full * (1 - t**2) + open_by], -1)
    skin.fill(np.concatenate([upper, lower[::-1]]), color)
    skin.line(lower, shade(color, 0.75), 0.016)
    if look.smile == 2:
        inner = line - np.stack([0 * t, open_by], -1)
        skin.fill(np.concatenate([line, inner[::-1]]), (240.0, 238.0, 230.0))
        skin.line(inner, shade(color, 0.5), 0.014)
    skin.line(line, shade(color, 0.4), 0.022)


def _draw_beard(skin: Skin, look: Look, rng: Rng) -> None:
    kind = rng.random()
    if look.gender > 0 or look.age < 17 or kind < 0.3:
        return
    count = {0: 260, 1: 90, 2: 420}[0 if kind < 0.65 else 1 if kind < 0.8 else 2]
    if count == 90:  # a moustache alone
        x, y = (
            rng.uniform(-0.24, 0.24, count),
            rng.uniform(look.mouth_y + 0.06, look.nose_y - 0.04, count),
        )
    else:
        x = rng.uniform(-0.72, 0.72, count)
        top = np.where(
            np.abs(x) < 0.3, look.mouth_y - 0.1, look.mouth_y + 0.1 + 0.5 * (np.abs(x) - 0.3)
        )
        y = rng.uniform(-0.97, top)
        lip = rng.random(count) < 0.2
        x, y = (
            np.where(lip, x * 0.35, x),
            np.where(lip, rng.uniform(look.mouth_y + 0.06, look.nose_y - 0.04, count), y),
        )
    # Bright hair, white with age or in contrast to dark skin.
    bright = sum(look.skin) / 3 < 120 or look.age > 65
    low, high = (
        ((1.15, 1.7) if bright else (0.4, 0.8))
        if count != 260
        else ((1.1, 1.35) if bright else (0.6, 0.9))
    )
    skin.dots(np.stack([x, y], -1), rng.uniform(low, high, count))


def _draw_glasses(skin: Skin, look: Look, rng: Rng) -> None:
    color = from_hsv(rng.uniform(0, 180), rng.uniform(0, 200), rng.uniform(20, 160))
    turn, power = np.linspace(0, 2 * np.pi, 17), rng.uniform(0.5, 1)
    for side in (-1, 1):
        x = side * look.eye_x + 0.22 * np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** power
        y = look.eye_y - 0.02 + 0.17 * np.sign(np.sin(turn)) * np.abs(np.sin(turn)) ** power
        skin.line(np.stack([x, y], -1), color, 0.03)
        skin.line(
            arc(side * (look.eye_x + 0.22), look.eye_y, side * 0.7, look.eye_y + 0.02, 0),
            color,
            0.03,
        )
    skin.line(arc(0.22 - look.eye_x, look.eye_y, look.eye_x - 0.22, look.eye_y, 0.03), color, 0.03)
