"""Hair as a shell around the skull: cut by gender, hairline and gray by age, colour by neither."""

from dataclasses import dataclass

import cv2
import numpy as np

from mtl_jax.data.synthetic import textures
from mtl_jax.data.synthetic.looks import Look, Rng
from mtl_jax.data.synthetic.surfaces import Surface

HAIR_SIZE = (192, 320)  # rows from the top of the hair to its end, columns once around


@dataclass(frozen=True)
class Hair:
    """A shell around the skull, and its unrolled image."""

    shell: Surface
    pixels: np.ndarray  # [*HAIR_SIZE, 4] uint8, RGB and 255 where there is hair


def random_hair(look: Look, rng: Rng, texture_seed: int) -> Hair:
    """Choose the cut by gender, the hairline and the gray by age, the strands by neither."""
    rows, columns = HAIR_SIZE
    length = float(
        np.clip(1.15 + 0.3 * look.gender * (0.4 + 0.6 * look.grown) + rng.normal(0, 0.75), 0, 3)
    )
    puff = 1.03 + 0.04 * min(length, 1) + abs(rng.normal(0, 0.04))
    end = 0.55 + 0.35 * max(length - 0.6, 0)  # length below the eyes
    skull = look.skull
    shell = Surface(
        skull.width * puff,
        skull.depth * puff,
        top=1.02 * puff,
        bottom=max(end, 1.0),
        upper=skull.upper,
        lower=(0.1, 0.1, 0.8) if end > 0.9 else (0.5, 0.3, 0.2),
        slant=skull.slant,
    )
    angle = np.linspace(-np.pi, np.pi, 97)
    across = np.abs(angle)
    age, bald = look.aged(rng), look.aged(rng) - 20 * look.gendered(rng) - 35 * abs(rng.normal())
    line = 0.62 + 0.0015 * max(age - 25, 0) + rng.normal(0, 0.05) + 0.08 * np.cos(3 * angle)
    fringe = rng.random() < 0.25
    if fringe:
        line = line - 0.27
    opening = rng.uniform(0.95, 1.25)  # radians, half of the face's angle without hair
    low = np.where(across < opening, line, -0.92 * end)
    if length < 1.2 + 0.6 * rng.normal():  # cut around the ears
        burns = look.eye_y - rng.uniform(-0.05, 0.25)
        low = np.where((across > opening) & (across < 1.4), burns, low)
        low = np.where((across >= 1.4) & (across < 2.1), look.eye_y + 0.08, low)
    low = cv2.blur(low[None].astype(np.float64), (3, 1))[0]
    low += rng.normal(0, 0.035 if fringe else 0.018, 97) * (across > 0.1)
    cover = np.zeros(HAIR_SIZE, np.uint8)
    column = (angle / (2 * np.pi) + 0.5) * columns
    row = (shell.top - low) / (shell.top + shell.bottom) * rows
    outline = np.concatenate([np.stack([column, row], -1), [(columns, 0), (0, 0)]])
    cv2.fillPoly(cover, [np.rint(outline).astype(np.int32)], 255)
    if bald > 50:  # a bald patch on the crown, which grows
        reach = float(np.clip((bald - 50) / 45, 0.1, 1))
        rim = shell.top - 0.15 - 0.5 * reach
        edge = np.where(across < 0.3 + 0.9 * reach, shell.top - 1, rim) + rng.normal(0, 0.02, 97)
        row = (shell.top - edge) / (shell.top + shell.bottom) * rows
        outline = np.concatenate([np.stack([column, row], -1), [(columns, -1), (0, -1)]])
        cv2.fillPoly(cover, [np.rint(outline).astype(np.int32)], 0)
    return Hair(shell, cv2.merge([*cv2.split(_color_hair(look, rng, texture_seed)), cover]))


def _color_hair(look: Look, rng: Rng, texture_seed: int) -> np.ndarray:
    """Return strands in the hair's colour, some gray by age, with about the same mean colour."""
    strands = _strands(rng, texture_seed, 1)
    light = np.arange(256)[:, None] / 128
    pixels = _tinted(strands, light * look.hair)
    gray = float(np.clip((look.aged(rng) - 30) / 50, 0, 1))
    if gray > 0:
        level = sum(look.hair) / 3
        level += 70 if level < 150 else -60
        grays = _tinted(strands, level + 30 * (light - 1) + np.zeros(3))
        steps = np.clip((np.arange(256) / 255 - 0.62 + 0.3 * gray) * 8, 0, 1) * min(2 * gray, 0.9)
        streaks = _strands(rng, texture_seed, int(rng.integers(2, 4)))
        weight = cv2.LUT(streaks, steps.astype(np.float32))
        pixels = cv2.blendLinear(pixels, grays, 1 - weight, weight)
        shift = 0.8 * (np.array(look.hair) - cv2.mean(pixels)[:3])
        pixels = cv2.add(pixels, np.array([*shift, 0.0]))
    return pixels


def _strands(rng: Rng, texture_seed: int, step: int) -> np.ndarray:
    """Return strands of the bank at the hair's size, from every `step`-th column."""
    bank = textures.strands(texture_seed, int(rng.integers(textures.BANK)))
    shifted = np.roll(bank, int(rng.integers(bank.shape[1])), 1)
    return cv2.resize(shifted[:, ::step], HAIR_SIZE[::-1])


def _tinted(brightness: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Map each brightness to its colour in `colors` `[256, 3]`."""
    return cv2.LUT(cv2.merge([brightness] * 3), np.clip(colors, 0, 255).astype(np.uint8)[None])
