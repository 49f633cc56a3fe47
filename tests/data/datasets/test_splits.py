"""Splits: every record is in one split, groups are not divided, and files are read back."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mistakes import refused

from mtl_jax.data.datasets import splits
from mtl_jax.io.atomic import write_json

GROUPS = st.lists(st.integers(0, 20).map(str), max_size=80)


@given(GROUPS, st.integers(0, 5))
def test_every_record_is_in_one_split_and_groups_are_not_divided(groups: list[str], seed: int):
    found = splits.split(groups, seed=seed)
    assert sorted(i for part in found.values() for i in part) == list(range(len(groups)))
    owners = [{groups[i] for i in part} for part in found.values()]
    assert sum(map(len, owners)) == len(set(groups))
    if len(set(groups)) >= 3:
        assert all(found.values())


@given(GROUPS, st.integers(0, 5), st.randoms(use_true_random=False))
def test_the_order_of_records_does_not_matter(groups: list[str], seed: int, rng):
    order = list(range(len(groups)))
    rng.shuffle(order)
    plain = splits.split(groups, seed=seed)
    moved = splits.split([groups[i] for i in order], seed=seed)
    for name in splits.NAMES:
        assert {groups[i] for i in plain[name]} == {groups[order[i]] for i in moved[name]}


def test_fractions_are_met_and_seeds_differ():
    groups = [str(i) for i in range(1000)]
    first, again, other = (splits.split(groups, seed=seed) for seed in (0, 0, 1))
    assert [len(part) for part in first.values()] == [700, 150, 150]
    assert first == again != other
    assert splits.split(groups, (1.0, 0.0, 0.0))["train"] == list(range(1000))
    assert splits.split([], seed=3) == {"train": [], "val": [], "test": []}


@pytest.mark.parametrize("fractions", [(0.5, 0.5), (0.7, 0.2, 0.2), (1.2, -0.1, -0.1)])
def test_wrong_fractions_are_refused(fractions: tuple[float, ...]):
    with refused("fractions", fractions, *splits.NAMES):
        splits.split(["a"], fractions)


def test_a_stored_split_is_read_back(tmp_path: Path):
    division = {"train": {"coco": [5, 9]}, "val": {"coco": [7]}, "test": {"faces": ["ä.jpg"]}}
    write_json(tmp_path / "run/splits.json", division)
    assert splits.read(tmp_path / "run/splits.json") == division
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["splits.json"]
    assert splits.positions([7, 9, 5], [5, 7, 8]) == ([0, 2], [8])


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("{", ()),
        ("[]", ()),
        ('{"train": {"faces": [71]}, "val": {"faces": [71]}}', ("faces", 71, "train", "val")),
        ('{"train": {"faces": [1.5]}}', ("faces", 1.5)),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, parts: tuple):
    path = tmp_path / "splits.json"
    path.write_text(text)
    with refused(path, *parts):
        splits.read(path)
