"""Textures, drawn once and reused: backgrounds, hair, noise; one bank per `texture_seed`."""

from functools import lru_cache

import cv2
import numpy as np

BANK = 48  # number of backgrounds, and of strands, per seed
GROUND_SIZE, STRANDS_SIZE, NOISE_SIZE = 384, (192, 384), 640


@lru_cache(maxsize=8 * BANK)
def ground(texture_seed: int, number: int) -> np.ndarray:
    """Return a background `[GROUND_SIZE, GROUND_SIZE, 3]` uint8: patterns over a gradient."""
    rng = np.random.default_rng((texture_seed, 1, number))
    size = GROUND_SIZE
    x, y = np.meshgrid(
        np.linspace(0, 1, size, dtype=np.float32), np.linspace(0, 1, size, dtype=np.float32)
    )
    ends = rng.uniform(30, 225, (3, 3)).astype(np.float32)
    direction = rng.uniform(0, 2 * np.pi)
    ramp = ((x - 0.5) * np.cos(direction) + (y - 0.5) * np.sin(direction) + 0.5)[..., None]
    image = ends[0] * (1 - ramp) + ends[1] * ramp
    for _ in range(rng.integers(1, 4)):
        pattern = _PATTERNS[rng.integers(len(_PATTERNS))](x, y, rng)[..., None]
        image += pattern * rng.uniform(-70, 70, 3).astype(np.float32)
    image += (_clouds(x, y, rng) * rng.uniform(0, 60))[..., None]
    return np.clip(image, 0, 255).astype(np.uint8)


def _clouds(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return smooth noise of several scales, about -1 to 1."""
    total = np.zeros_like(x)
    for octave in range(5):
        cells = int(4 * 2**octave)
        coarse = rng.normal(0, 1, (cells, cells)).astype(np.float32)
        total += cv2.resize(coarse, x.shape[::-1], interpolation=cv2.INTER_CUBIC) * rng.uniform(
            0.1, 0.6
        )
    return total / (np.abs(total).max() + 1e-6)


def _turned(
    x: np.ndarray, y: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    angle, scale = rng.uniform(0, np.pi), rng.uniform(4, 30)
    return scale * (x * np.cos(angle) + y * np.sin(angle)), scale * (
        y * np.cos(angle) - x * np.sin(angle)
    )


def _stripes(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    u, v = _turned(x, y, rng)
    wave = np.sin(2 * np.pi * (u + rng.uniform(0, 0.4) * np.sin(v)))
    return np.clip(wave * rng.uniform(1, 8), -1, 1)


def _checks(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    u, v = _turned(x, y, rng)
    return np.clip(6 * np.sin(np.pi * u) * np.sin(np.pi * v), -1, 1)


def _bricks(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    u, v = _turned(x, y, rng)
    shifted = u / 2 + 0.5 * (np.floor(v) % 2)
    joint = (np.mod(v, 1) < 0.12) | (np.mod(shifted, 1) < 0.06)
    tint = np.sin(12.9898 * np.floor(shifted) + 78.233 * np.floor(v))
    return np.where(joint, -1, 0.4 * tint).astype(np.float32)


def _rings(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    u, v = _turned(x, y, rng)
    distance = np.hypot(np.mod(u, 1) - 0.5, np.mod(v, 1) - 0.5)
    return np.clip(8 * (rng.uniform(0.2, 0.4) - distance), -1, 1)


_PATTERNS = (_clouds, _stripes, _checks, _bricks, _rings)


@lru_cache(maxsize=8 * BANK)
def strands(texture_seed: int, number: int) -> np.ndarray:
    """Return the brightness `STRANDS_SIZE` uint8, around 128, of hair along the columns."""
    rng = np.random.default_rng((texture_seed, 2, number))
    rows, columns = STRANDS_SIZE
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    fine = rng.normal(0, 1, (1, columns // int(rng.integers(2, 6)))).astype(np.float32)
    field = np.repeat(cv2.resize(fine, (columns, 1), interpolation=cv2.INTER_CUBIC), rows, 0)
    along = cv2.resize(
        rng.normal(0, 1, (8, 48)).astype(np.float32), (columns, rows), interpolation=cv2.INTER_CUBIC
    )
    wave, length, curl = (
        rng.uniform(0, 9),
        rng.uniform(20, 80),
        rng.uniform(0, 6) * (rng.random() < 0.4),
    )
    across = (
        x + wave * np.sin(2 * np.pi * y / length + x / 40) + curl * np.sin(y / 3) * np.cos(x / 5)
    )
    field = cv2.remap(
        field + 0.7 * along,
        across,
        y + curl * np.cos(x / 4),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_WRAP,
    )
    return np.clip(128 + field * rng.uniform(22, 42), 20, 250).astype(np.uint8)


@lru_cache(maxsize=8)
def noise(texture_seed: int) -> np.ndarray:
    """Return normal noise `[NOISE_SIZE, NOISE_SIZE, 3]` int16 of standard deviation 64."""
    rng = np.random.default_rng((texture_seed, 3))
    return np.rint(rng.normal(0, 64, (NOISE_SIZE, NOISE_SIZE, 3))).astype(np.int16)
