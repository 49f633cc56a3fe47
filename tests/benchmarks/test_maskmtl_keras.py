"""MaskMTL and Keras: the same faces and labels, and a table of the last epochs."""

import json

import numpy as np
import pytest
from real_data import data_set

from benchmarks import maskmtl_keras
from mtl_jax import experiment
from mtl_jax.config.overrides import load_config_file
from mtl_jax.config.resolve import resolve
from mtl_jax.runs.setup import Setup


@pytest.mark.slow
def test_keras_trains_on_the_same_faces(tmp_path):
    data_set("utkface_crop_part1")
    config = load_config_file(maskmtl_keras.CONFIG)
    images, labels = maskmtl_keras.read_faces(config, "train")
    training = experiment.open_data(resolve(config), "train", tmp_path)
    setup = Setup.build(resolve(config), training.categories)
    loop = setup.experiment.train
    batch = next(experiment.train_batches(setup, training, loop, 0))
    np.testing.assert_array_equal(images[batch.index], batch.images / np.float32(255))
    for attribute in setup.attributes:
        ours = batch.gt.attributes[attribute.name].values[:, 0, 0]
        theirs = labels[attribute.name][batch.index]
        theirs = theirs.argmax(1) if attribute.name == "race" else theirs[:, 0]
        np.testing.assert_array_equal(theirs, ours)


def test_the_table_is_of_the_last_epochs(tmp_path):
    for library, first in (("mtl_jax", 0.7), ("keras", 0.6)):
        for seed in range(2):
            epochs = [0.0] * 10 + [first + 0.1 * seed] * maskmtl_keras.LAST
            run = dict.fromkeys(maskmtl_keras.METRICS, epochs)
            (tmp_path / f"{library}_{seed}.json").write_text(json.dumps(run))
    lines = maskmtl_keras.table(tmp_path).splitlines()
    assert lines[1].split()[:5] == ["mtl_jax", "2", "0.750", "±", "0.071"]
    assert lines[2].split()[:5] == ["keras", "2", "0.650", "±", "0.071"]
