"""The objects of a config's data are shown and checked before training."""

import logging
from dataclasses import replace

import numpy as np
import pytest
from mistakes import check_names, refused

from mtl_jax.config.defaults import get_small
from mtl_jax.config.resolve import resolve
from mtl_jax.data.datasets.sources import Opened
from mtl_jax.data.records import Category, Instance, Record, Source
from mtl_jax.runs.objects import count_splits, report_objects

CATEGORIES = (Category(1, "cat"), Category(2, "dog"))
NOTHING = Opened((), (), CATEGORIES)


class Records(list, Source):
    categories = CATEGORIES


class Drawn(Records):
    is_drawn = True


def opened(*objects: tuple[int, bool], weight: float = 1.0, kind=Records) -> Opened:
    image = np.zeros((50, 50, 3), np.uint8)
    instances = tuple(Instance((5, 5, 20, 20), label, crowd=crowd) for label, crowd in objects)
    record = Record(image, 50, 50, 1, "a", instances)
    return Opened((kind([record]),), (weight,), CATEGORIES)


@pytest.fixture
def experiment():
    config = get_small(side=64)
    config.data.sources = (dict(format="coco", path="x"),)
    return resolve(config)


CAT, DOG, CROWD = (1, False), (2, False), (2, True)


def test_the_table_is_printed(experiment, capsys, caplog):
    with caplog.at_level(logging.WARNING):
        report_objects({"train": opened(CAT, CAT, DOG), "val": opened(CAT)}, experiment)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert rows == [
        ["cat", "2", "0", "0", "1", "0", "0"],
        ["dog", "1", "0", "0", "0", "0", "0"],
        ["all", "3", "0", "0", "1", "0", "0"],
    ]
    (message,) = caplog.messages
    check_names(message, "train", "val", "'dog'")


def test_a_new_run_without_objects_to_learn_is_refused(experiment):
    splits = {"train": opened(CAT, CROWD), "val": NOTHING}
    with refused("'dog'", "crowds", "crowd='objects'"):
        report_objects(splits, experiment)
    block = {"format": "voc", "path": "x"}
    other = replace(experiment, sources=replace(experiment.sources, sources=(block,)))
    with refused("'dog'", "crowds") as caught:
        report_objects(splits, other)
    assert "crowd=" not in str(caught.value)


def test_sources_that_are_not_used_do_not_count(experiment, capsys):
    train, unused = opened(CAT), opened(DOG, weight=0.0)
    both = Opened(train.sources + unused.sources, (1.0, 0.0), CATEGORIES)
    objects = count_splits({"train": both, "val": NOTHING}, experiment)
    assert objects.train.taught.tolist() == [1, 0]
    drawn = opened(CROWD, kind=Drawn)
    report_objects({"train": drawn, "val": NOTHING}, experiment)
    assert capsys.readouterr().out == ""
