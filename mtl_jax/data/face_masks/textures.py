"""Flat textures of masks: five kinds, plain or with patterns, and a bank of each kind."""

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

KINDS = ("surgical", "n95", "kn95", "cloth", "scarf")
BANK = 48  # textures per kind
HEIGHT, WIDTH = 144, 224
_U, _V = np.meshgrid(
    np.linspace(-1, 1, WIDTH, dtype=np.float32), np.linspace(0, 1, HEIGHT, dtype=np.float32)
)
# The upper and lower edge at the distance |u| from the middle: a + b |u|^c, 1 - a - b |u|^c.
_EDGES = {
    "surgical": ((0.01, 0.02, 2.0), (0.00, 0.05, 2.0)),
    "n95": ((0.02, 0.30, 2.0), (0.00, 0.42, 2.2)),
    "kn95": ((0.00, 0.26, 1.3), (0.00, 0.38, 1.6)),
    "cloth": ((0.00, 0.18, 1.6), (0.00, 0.30, 2.0)),
    "scarf": ((0.02, -0.02, 2.0), (0.00, 0.00, 1.0)),
}
_PLAIN = {
    "surgical": ((150, 196, 222), (182, 214, 232), (226, 232, 234), (132, 190, 176), (44, 46, 50),
                 (232, 178, 194)),
    "n95": ((236, 234, 226), (224, 224, 222), (214, 220, 226), (240, 238, 234)),
    "kn95": ((240, 240, 240), (228, 228, 226), (52, 54, 58), (150, 152, 158), (196, 210, 226)),
    "cloth": ((40, 42, 48), (30, 48, 92), (150, 36, 44), (110, 116, 122), (226, 222, 212),
              (64, 96, 72), (196, 140, 60), (120, 80, 130)),
    "scarf": ((150, 30, 34), (34, 50, 96), (40, 42, 44), (196, 184, 160), (70, 92, 66),
              (112, 76, 56)),
}  # fmt: skip


class Texture(NamedTuple):
    color: np.ndarray  # [HEIGHT, WIDTH, 3] uint8
    alpha: np.ndarray  # [HEIGHT, WIDTH] uint8, 255 where the mask is
    strap: tuple[int, ...]  # colour of the straps


@lru_cache(maxsize=len(KINDS) * BANK)
def texture(kind: str, number: int) -> Texture:
    """Draw a texture of the bank; `kind` is one of KINDS, `number` from 0 to BANK - 1."""
    rng = np.random.default_rng((KINDS.index(kind), number))
    plain = np.array(_PLAIN[kind][rng.integers(len(_PLAIN[kind]))], np.float32)
    plain = np.clip(plain * rng.uniform(0.92, 1.06) + rng.normal(0, 4, 3), 12, 246)
    color = np.broadcast_to(plain, (HEIGHT, WIDTH, 3)).astype(np.float32)
    if kind in ("cloth", "scarf") and rng.random() < 0.7:
        color = _pattern(plain, rng)
    light = _folds(kind, rng) * _weave(kind, rng)
    color = color * light[..., None]
    if kind == "n95":
        color = _add_valve(color, rng)
    strap = plain * 0.9 if kind == "cloth" else np.array((232, 230, 226))
    if kind == "n95" and rng.random() < 0.4:
        strap = np.array((222, 190, 90))
    return Texture(
        np.clip(color, 0, 255).astype(np.uint8), _outline(kind), tuple(int(c) for c in strap)
    )


def _outline(kind: str) -> np.ndarray:
    """Return the alpha of the flat mask, with an edge that is soft over a texel."""
    (a, b, c), (d, e, f) = _EDGES[kind]
    side = np.abs(_U)
    inside = np.minimum(_V - a - b * side**c, 1 - d - e * side**f - _V) * HEIGHT
    # Two texels of margin, because an edge at the border would be harder when stretched.
    inside = np.minimum(inside, (1 - side) * WIDTH / 2) - 2
    return np.clip(255 * (inside + 0.5), 0, 255).astype(np.uint8)


def _folds(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Return the brightness due to a mask's relief, about 1."""
    light = 1.04 - 0.16 * np.abs(_U) ** 2 - 0.10 * (_V - 0.35) ** 2
    if kind == "surgical":
        spread = 0.5 + (_V - 0.5) * (1 - 0.25 * _U**2)  # pleats run together at the ears
        for at in (0.32, 0.52, 0.72):
            below = spread - at - rng.normal(0, 0.01)
            light -= 0.22 * np.exp(-((below / 0.012) ** 2)) * (0.6 + 0.4 * np.abs(_U))
            light += 0.09 * np.exp(-(((below - 0.05) / 0.04) ** 2))
        light -= 0.07 * (np.abs(_V - 0.07) < 0.008) + 0.05 * (np.abs(_V - 0.95) < 0.008)
        light -= 0.08 * (np.abs(np.abs(_U) - 0.93) < 0.008)
    elif kind == "n95":
        light += 0.06 - 0.20 * (_U**2 + (1.5 * (_V - 0.5)) ** 2)
        light -= 0.12 * np.exp(-(((_V - 0.12 - 0.28 * _U**2) / 0.012) ** 2))
        light -= 0.10 * np.exp(-(((1 - _V - 0.09 - 0.4 * np.abs(_U) ** 2.2) / 0.012) ** 2))
    elif kind == "kn95":
        light += 0.05 * np.sign(_U) * rng.choice((-1, 1))  # its flat sides differ in direction
        light -= 0.22 * np.exp(-((_U / 0.012) ** 2))
        rim = np.abs(_V - 0.07 - 0.26 * np.abs(_U) ** 1.3) < 0.012
        rim |= np.abs(1 - _V - 0.07 - 0.38 * np.abs(_U) ** 1.6) < 0.012
        light -= 0.10 * (rim & (np.mod(_U * 40, 1) < 0.6))
    elif kind == "cloth":
        light -= 0.12 * np.exp(-((_U / 0.010) ** 2)) * (rng.random() < 0.7)
        light += 0.04 * np.sin(rng.uniform(2, 4) * _U + 5 * _V + rng.uniform(0, 6))
    else:
        for _ in range(5):
            turn, phase = rng.uniform(-0.5, 0.5), rng.uniform(0, 6)
            wave = np.sin(rng.uniform(3, 8) * (_U * np.cos(turn) + _V * np.sin(turn)) + phase)
            light += 0.05 * wave * (0.4 + _V)
    return light.astype(np.float32)


def _weave(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Return the brightness due to the grain of the fabric, about 1."""
    strength = {"cloth": 0.03, "scarf": 0.035}.get(kind, 0.012)
    return 1 + strength * rng.normal(0, 1, (HEIGHT, WIDTH)).astype(np.float32)


def _pattern(plain: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Print a pattern in a second colour, with the hearts of flowers in a third."""
    drawn = (_checks, _stripes, _dots, _flowers, _blotches)[rng.integers(5)](rng)
    second = plain * 0.35 if plain.mean() > 130 else 255 - (255 - plain) * 0.25
    second = np.clip(second + rng.normal(0, 30, 3), 10, 245)
    third = rng.uniform(120, 250, 3)
    share, heart = drawn
    color = plain + share[..., None] * (second - plain)
    return (color + heart[..., None] * (third - color)).astype(np.float32)


Print = tuple[np.ndarray, np.ndarray]  # shares of the second and of the third colour


def _turned(rng: np.random.Generator, cells: float) -> tuple[np.ndarray, np.ndarray]:
    turn = rng.choice((0.0, np.pi / 4, rng.uniform(0, np.pi)))
    x, y = cells * _U, cells * _V * 2 * HEIGHT / WIDTH
    return x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)


def _checks(rng: np.random.Generator) -> Print:
    x, y = _turned(rng, rng.uniform(3, 9))
    a, b = (np.mod(x, 1) < 0.5).astype(np.float32), (np.mod(y, 1) < 0.5).astype(np.float32)
    return 0.5 * (a + b), np.zeros_like(a)


def _stripes(rng: np.random.Generator) -> Print:
    x, y = _turned(rng, rng.uniform(3, 10))
    wide, narrow = np.mod(x, 1) < rng.uniform(0.2, 0.5), np.abs(np.mod(x, 1) - 0.75) < 0.05
    return wide.astype(np.float32), (narrow & (y < np.inf)).astype(np.float32)


def _dots(rng: np.random.Generator) -> Print:
    x, y = _turned(rng, rng.uniform(4, 9))
    x = x + 0.5 * (np.mod(np.floor(y), 2))
    near = np.hypot(np.mod(x, 1) - 0.5, np.mod(y, 1) - 0.5)
    return np.clip(8 * (rng.uniform(0.2, 0.35) - near), 0, 1), np.zeros_like(near)


def _flowers(rng: np.random.Generator) -> Print:
    leaves, hearts = np.zeros((2, HEIGHT, WIDTH), np.float32)
    for _ in range(rng.integers(14, 34)):
        at = rng.uniform((0, 0), (WIDTH, HEIGHT))
        radius, petals = rng.uniform(5, 12), rng.integers(4, 7)
        for turn in rng.uniform(0, 6) + np.arange(petals) * 2 * np.pi / petals:
            petal = at + radius * 0.7 * np.array((np.cos(turn), np.sin(turn)))
            cv2.circle(leaves, np.rint(petal).astype(int).tolist(), int(radius * 0.45), 1.0, -1,
                       cv2.LINE_AA)  # fmt: skip
        cv2.circle(
            hearts, np.rint(at).astype(int).tolist(), int(radius * 0.4), 1.0, -1, cv2.LINE_AA
        )
    return leaves, hearts


def _blotches(rng: np.random.Generator) -> Print:
    def clouds(cells: int) -> np.ndarray:
        coarse = rng.normal(0, 1, (cells, 2 * cells)).astype(np.float32)
        return cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)

    field = clouds(4) + 0.6 * clouds(9)
    return np.clip(4 * field, 0, 1), np.clip(4 * (clouds(6) - 0.9), 0, 1)


def _add_valve(color: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw the round valve of an N95 beside its middle."""
    u, v, radius = rng.choice((-0.34, 0.34)), rng.uniform(0.52, 0.62), rng.uniform(0.13, 0.17)
    near = np.hypot(_U - u, (_V - v) * 2 * HEIGHT / WIDTH) / radius
    tone = np.array(rng.choice((232.0, 210.0, 120.0)))
    lit = 1 - 0.10 * (_V - v) / radius + 0.08 * np.cos(near * 9)
    lit -= 0.25 * np.exp(-(((near - 0.97) / 0.06) ** 2))
    inside = np.clip((1 - near) * 8, 0, 1)
    shadow = 1 - 0.25 * np.clip(1.25 - near, 0, 0.25) * 4 * (v < _V)
    color = color * shadow[..., None]
    return color + inside[..., None] * ((tone * lit)[..., None] - color)
