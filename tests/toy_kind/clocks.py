"""A source of drawn clocks with one hand, for format="python"."""

import cv2
import numpy as np

from mtl_jax.data.records import Category, Instance, Record

SIDE = 32


class Clocks:
    categories = (Category(1, "clock"),)

    def __init__(self, length, seed):
        self.length, self.seed = length, seed

    def __len__(self):
        return self.length

    def __getitem__(self, position):
        hour = float(np.random.default_rng((self.seed, position)).uniform(0, 23.9))
        turn, middle = 2 * np.pi * hour / 24, SIDE // 2
        end = (round(middle + 12 * np.sin(turn)), round(middle - 12 * np.cos(turn)))
        pixels = np.full((SIDE, SIDE, 3), 255, np.uint8)
        cv2.line(pixels, (middle, middle), end, (0, 0, 0), 3)
        labels = {"time": hour} if position % 4 else {}
        clock = Instance((0, 0, SIDE, SIDE), 1, attributes=labels)
        name = f"{self.seed}/{position}.png"
        return Record(pixels, SIDE, SIDE, position, name, (clock,))


def open_source(length=100, seed=0):
    return Clocks(length, seed)
