"""Objects in a scene besides heads: shoulders, boxes, balls in skin colours, writing."""

import cv2
import numpy as np

from mtl_jax.data.synthetic import textures
from mtl_jax.data.synthetic.looks import Color, Rng, random_skin, shade


def draw_distractor(size: int, rng: Rng, texture_seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw a distractor for an image of shorter side `size`: pixels `[P, P, 3]`, cover `[P, P]`."""
    half = max(6, int(size * rng.uniform(0.04, 0.16)))
    side = 2 * half + 2
    pixels = np.empty((side, side, 3), np.uint8)
    pixels[:] = random_skin(rng) if rng.random() < 0.5 else rng.integers(20, 236, 3)
    mask = np.zeros((side, side), np.uint8)
    kind = rng.integers(4)
    if kind == 0:
        _strokes(mask, half, rng)
    elif kind == 1:
        corners = cv2.boxPoints(
            ((half, half), tuple(half * rng.uniform(0.6, 1.35, 2)), rng.uniform(0, 90))
        )
        cv2.fillPoly(mask, [np.rint(corners * 16).astype(np.int32)], (255,), cv2.LINE_AA, 4)
        _pattern(pixels, rng, texture_seed)
    else:
        axes = (half - 1, int((half - 1) * rng.uniform(0.6, 1)))
        cv2.ellipse(mask, (half, half), axes, rng.uniform(0, 180), 0, 360, (255,), -1, cv2.LINE_AA)
        if rng.random() < 0.5:
            _pattern(pixels, rng, texture_seed)
        pixels = _round(pixels, half, rng)
    return pixels, mask


def _strokes(mask: np.ndarray, half: int, rng: Rng) -> None:
    """Draw lines of random letter-like strokes."""
    step = max(4, half // 3)
    width = max(1, step // 5)
    for y in range(step, 2 * half - step, 2 * step):
        for x in range(2, 2 * half - step, step):
            letter = rng.uniform(0, 1, (4, 2)) * (0.7 * step, 1.3 * step) + (x, y)
            cv2.polylines(
                mask, [np.rint(letter).astype(np.int32)], False, (255,), width, cv2.LINE_AA
            )


def _pattern(pixels: np.ndarray, rng: Rng, texture_seed: int) -> None:
    """Draw stripes or a part of a background texture over the colour."""
    if rng.random() < 0.5:
        start, step = int(rng.integers(0, 4)), int(rng.integers(3, 12))
        for y in range(start, len(pixels), step):
            pixels[y : y + max(1, step // 3)] = np.array(
                shade(tuple(pixels[0, 0].tolist()), rng.uniform(0.4, 0.8))
            )
    else:
        bank = textures.ground(texture_seed, int(rng.integers(textures.BANK)))
        top, left = (
            rng.integers(0, bank.shape[0] - len(pixels) + 1, 2)
            if len(pixels) < len(bank)
            else (0, 0)
        )
        cut = cv2.resize(
            bank[top : top + len(pixels), left : left + len(pixels)], pixels.shape[1::-1]
        )
        pixels[:] = cv2.addWeighted(pixels, 0.5, cut, 0.5, 0)


def _round(pixels: np.ndarray, half: int, rng: Rng) -> np.ndarray:
    """Shade a disc as a ball in a random light."""
    cells = ((np.arange(24) + 0.5) / 12 - 1).astype(np.float32)
    x, y = np.meshgrid(cells, cells)
    z = np.sqrt(np.maximum(1 - x * x - y * y, 0))
    light = np.array([rng.uniform(-1, 1), rng.uniform(-1, 0.6), rng.uniform(0.4, 1.2)])
    light /= np.linalg.norm(light)
    ambient = rng.uniform(0.4, 0.75)
    bright = ambient + (1 - ambient) * np.maximum(x * light[0] + y * light[1] + z * light[2], 0)
    bright = cv2.resize(bright.astype(np.float32), pixels.shape[1::-1])
    return cv2.multiply(pixels, cv2.merge([bright] * 3), dtype=cv2.CV_8U)


def draw_shoulders(
    skin: Color, height: float, pose: tuple[float, float, float], rng: Rng
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw neck and shoulders for a head of `height` pixels.

    Return pixels, cover, and the offset of their centre from the head's.
    """
    side = int(2.2 * height)
    pixels = np.empty((side, side, 3), np.uint8)
    cloth = rng.integers(20, 236, 3)
    pixels[:] = cloth
    if rng.random() < 0.4:
        step = max(3, int(height * rng.uniform(0.06, 0.2)))
        for start in range(0, side, step):
            pixels[start : start + step // 2] = np.clip(cloth * 0.6, 0, 255)
    mask = np.zeros((side, side), np.uint8)
    middle, wide, top = side / 2, height * rng.uniform(0.62, 0.85), height * rng.uniform(0.1, 0.2)
    lean = np.sin(np.radians(pose[2])) * 0.15 * height
    half = np.array([(wide, side), (0.9 * wide, top + 0.3 * height), (0.2 * height, top)])
    body = np.concatenate([half * (-1, 1), half[::-1]])
    root, collar, throat = 0.19 * height, top + 0.02 * height, top + 0.14 * height
    neck = np.array(
        [(-root - lean, 0), (root - lean, 0), (root, collar), (0, throat), (-root, collar)]
    )
    for polygon, paint in ((body, None), (neck, shade(skin, 0.62))):
        corners = np.rint(np.add(polygon, (middle, 0)) * 16).astype(np.int32)
        cv2.fillPoly(mask, [corners], (255,), cv2.LINE_AA, 4)
        if paint is not None:
            cv2.fillPoly(pixels, [corners], paint, cv2.LINE_AA, 4)
    return pixels, mask, np.array([0.0, side / 2 + 0.3 * height])
