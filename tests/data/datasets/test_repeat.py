import numpy as np
import pytest

from mtl_jax.data.datasets.repeat import repeat_factors, repeat_positions, repeat_rare
from mtl_jax.data.records import Category, Instance, Record, Source

PIXELS = np.zeros((10, 10, 3), np.uint8)


class Images(Source):
    """A hundred images: all with a cat, every fourth also with a dog, the last also with a cow."""

    categories = (Category(1, "cat"), Category(2, "dog"), Category(3, "cow"))

    def __len__(self):
        return 100

    def __getitem__(self, i):
        labels = [1] + [2] * (i % 4 == 0) + [3] * (i == 99)
        instances = [Instance((0, 0, 5, 5), label) for label in labels]
        instances.append(Instance((0, 0, 9, 9), 3, crowd=True))
        return Record(PIXELS, 10, 10, i, f"{i}.png", tuple(instances))

    def group(self, i):
        return f"group {i}"


def test_factors_are_those_of_the_rarest_class():
    factors = repeat_factors(Images(), 0.49)
    assert factors[1] == 1
    assert factors[4] == pytest.approx(np.sqrt(0.49 / 0.25))
    assert factors[99] == pytest.approx(np.sqrt(0.49 / 0.01))


def test_fractions_are_repeated_at_random_and_every_record_at_least_once():
    source = repeat_rare(Images(), 0.49)
    numbers = np.bincount([source[i].image_id for i in range(len(source))], minlength=100)
    assert numbers.min() == 1
    assert numbers[99] == 7
    assert numbers[::4].sum() == pytest.approx(25 * 1.4, abs=8)
    assert source.group(len(source) - 1) == "group 99"


def test_the_same_seed_repeats_the_same_records():
    factors = repeat_factors(Images(), 0.49)
    same = [repeat_positions(factors, seed).tolist() for seed in (0, 0, 1)]
    assert same[0] == same[1] != same[2]


def test_without_rare_classes_nothing_is_repeated():
    assert len(repeat_rare(Images(), 0.01)) == 100
