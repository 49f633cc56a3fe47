"""Objects that training uses, ignores and loses are counted, and losses are reported."""

import itertools

import numpy as np
import pytest
from mistakes import check_faults, check_names, unnamed

from mtl_jax.config.options.data import DataOptions, RegionOptions
from mtl_jax.data.loader import object_counts, transforms
from mtl_jax.data.loader.object_counts import (
    ObjectCounts,
    count_objects,
    faults,
    format_table,
    table,
    warnings,
)
from mtl_jax.data.records import Category, Instance, Record, Source
from mtl_jax.errors import UserError
from mtl_jax.images.resize import ResizeOptions

NAMES = ("cat", "dog")
SMALL = ResizeOptions("square", 50, 50, ((50, 50),))  # half the size of an image


class Records(list, Source):
    categories = tuple(Category(i, name) for i, name in enumerate(NAMES, 1))


class Drawn(Records):
    is_drawn = True


class Unreadable(Records):
    def __getitem__(self, position):
        raise UserError("wrong")


def instance(label=1, side=10.0, crowd=False) -> Instance:
    return Instance((5, 5, 5 + side, 5 + side), label, crowd=crowd)


def record(*instances: Instance, dropped=()) -> Record:
    image = np.zeros((100, 100, 3), np.uint8)
    return Record(image, 100, 100, 1, "a", instances, dropped=tuple(dropped))


def count(*records: Record, slots=3, **options) -> ObjectCounts:
    data = DataOptions(resize=SMALL, max_instances=slots, **options)
    return count_objects([Records(records)], NAMES, data)


def numbers(counts: ObjectCounts) -> dict[str, list[int]]:
    arrays = vars(counts)
    return {
        name: arrays[name].tolist() for name in ("taught", "crowds", "beyond", "tiny", "dropped")
    }


def test_each_object_is_counted_once():
    first = record(
        *(instance() for _ in range(4)), instance(side=1.5), instance(2, crowd=True), instance(2)
    )
    second = record(instance(2), instance(2, side=1.9), dropped=(1, 2, 2, 0))
    assert numbers(count(first, second, record())) == {
        "taught": [3, 1],
        "crowds": [0, 1],
        "beyond": [1, 1],
        "tiny": [1, 1],
        "dropped": [1, 2],
    }


def test_counts_are_those_of_the_batches():
    rng = np.random.default_rng(0)
    options = DataOptions(resize=SMALL, max_instances=4, mask_size=0)
    for _ in range(50):
        sides = rng.choice([1.0, 1.9, 2.1, 20.0], rng.integers(1, 9))
        found = record(*(instance(side=s, crowd=bool(rng.random() < 0.2)) for s in sides))
        gt = transforms.load(found, 0, (), options).gt
        counts = count(found, slots=4)
        assert counts.taught.sum() == gt.valid.sum()


def test_drawn_and_unreadable_records_are_not_counted():
    records = [record(instance())]
    sources = [Drawn(records), Unreadable(records), Records(records)]
    assert count_objects(sources, NAMES, DataOptions(resize=SMALL)).taught.tolist() == [1, 0]


def test_no_object_of_a_model_of_regions_is_lost():
    found = count(
        record(*(instance(side=1.0) for _ in range(5))), regions=RegionOptions(proposals="jitter")
    )
    assert (found.taught.tolist(), found.lost.tolist()) == ([5, 0], [0, 0])


def test_the_table_has_a_row_for_each_class():
    train = count(record(instance(), instance(2, crowd=True), instance(side=1.0)))
    val = count(record(instance(2)))
    assert table(train, val) == [
        ("cat", 1, 0, 1, 0, 0, 0),
        ("dog", 0, 1, 0, 1, 0, 0),
        ("all", 1, 1, 1, 1, 0, 0),
    ]
    lines = format_table(train, val).splitlines()
    assert len({len(line) for line in lines[:4]}) == 1
    check_faults(lines[4:], ("train", 1, "pixel"))


def test_the_table_is_printable():
    counts = count_objects([], ["a\x1b[2Jb\n", "dog"], DataOptions(resize=SMALL))
    lines = format_table(counts, counts).split("\n")
    assert len(lines) == 4
    assert all(line.isprintable() for line in lines)


CROWDS = record(instance(crowd=True), instance(crowd=True))
NOTHING = count()


@pytest.mark.parametrize(
    ("train", "named"),
    [
        (count(CROWDS), ("all 2", "crowds", "MEND")),
        (count(record(*[instance(side=1.0)] * 3)), (3, "pixel")),
        (count(record(dropped=(1, 1))), (2, "on_error")),
        (count(CROWDS, record(instance(side=1.0))), (2, "crowds", 1, "pixel", "MEND")),
    ],
)
def test_data_without_an_object_to_learn_is_refused(train, named):
    check_faults(list(faults(train, NOTHING, "MEND")), ("training", *named))


def test_a_class_without_an_object_to_learn_is_refused():
    train = count(record(instance(), instance(2, crowd=True)))
    (line,) = faults(train, NOTHING, "MEND")
    check_names(line, "'dog'", "all 1", "crowds", "MEND", "categories")
    assert list(faults(train, count(record(instance(2))))) == []  # val shows that it can be learned


def test_data_without_objects_trains_with_a_warning():
    assert list(faults(NOTHING, NOTHING)) == []
    check_faults(list(warnings(NOTHING, NOTHING, True)), ("training",))
    only = count(record(instance()))
    assert list(faults(only, only)) == []
    check_faults(list(warnings(only, only, True)), ("'dog'",))


BOTH = count(record(instance(), instance(2)))


@pytest.mark.parametrize(
    ("train", "val", "named"),
    [
        (BOTH, BOTH, None),
        (BOTH, NOTHING, ("validation", "AP")),
        (BOTH, count(record(instance())), ("train", "val", "'dog'")),
        (count(record(instance())), BOTH, ("val", "train", "'dog'")),
        (count(record(instance(), instance(2, crowd=True))), BOTH, ("train", "'dog'")),
        (count(record(*[instance()] * 4, instance(2))), BOTH, ("train", "5%", "'cat'", 2, 3)),
        (
            BOTH,
            count(*[record(instance(), instance(2))] * 19, record(dropped=(1, 1))),
            ("val", "'cat'", 2),
        ),
    ],
)
def test_likely_mistakes_are_warnings(train, val, named):
    found = list(warnings(train, val, has_val=True))
    if named is None:
        assert found == []
    else:
        assert any(not unnamed(line, named) for line in found), found


def test_few_lost_objects_are_no_warning():
    train = count(*[record(instance(), instance(2))] * 20, record(instance(side=1.0)))
    assert list(warnings(train, BOTH, True)) == []
    assert "1 " in format_table(train, BOTH).splitlines()[-1]


def test_names_that_differ_in_case_are_a_warning():
    options = DataOptions(resize=SMALL)
    records = [Records([record(instance(), instance(2))])]
    counts = count_objects(records, ("Cat", "cat"), options)
    check_faults(list(warnings(counts, counts, True)), ("'Cat'", "'cat'", "rename"))


def test_a_line_says_what_is_read_for_long(monkeypatch, caplog):
    counted = [record(instance())] * 7
    count(*counted)
    assert not caplog.messages
    monkeypatch.setattr(object_counts, "SLOW", 0.0)
    monkeypatch.setattr(object_counts.time, "monotonic", itertools.count().__next__)
    count(*counted)
    (line,) = caplog.messages
    check_names(line, "a", 7)
