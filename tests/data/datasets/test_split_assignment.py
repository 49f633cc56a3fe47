"""Splits of several sources: names shared by copies, and the stored splits of a run."""

from mtl_jax.data.datasets import splits
from mtl_jax.data.datasets.split_assignment import find_stored, stem, to_store


def test_only_extensions_of_image_files_are_removed_from_names():
    assert [stem(n) for n in ("a.jpg", "b/a.png.PNG", "clip.0001", "1.jpg.chip.jpg", "")] == [
        "a",
        "b/a",
        "clip.0001",
        "1.jpg.chip",
        "",
    ]


def test_stored_splits_do_not_depend_on_the_order_of_records():
    divided = [{"train": [0, 3], "val": [2], "test": [1]}, {"train": [], "val": [0], "test": []}]
    stored = to_store(("a", "b"), (["p", "q", "r", "s"], [7]), divided)
    assert stored["train"] == {"a": ["p", "s"], "b": []}
    assert find_stored("a", ["s", "r", "q", "p"], stored, None) == {
        "train": [0, 3],
        "val": [1],
        "test": [2],
    }
    assert find_stored("b", [6, 7], stored, None) == {"train": [], "val": [1], "test": []}


def test_sources_without_shared_names_are_split_independently():
    groups = [[str(i) for i in range(n)] for n in (12, 0, 30, 20)]
    names = [[f"{s} {group}" for group in of] for s, of in enumerate(groups)]
    assert splits.split_all(groups, [names]) == [splits.split(of) for of in groups]
    names[3] = names[2][:20]  # copies
    found = splits.split_all(groups, [names])
    assert found[:2] == [splits.split(of) for of in groups[:2]]
    for name in splits.NAMES:
        assert [i for i in found[2][name] if i < 20] == found[3][name]
    none = [[f"{s} {group}" for group in of] for s, of in enumerate(groups)]
    assert splits.split_all(groups, [none, names]) == found
