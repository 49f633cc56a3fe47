"""The ablation's script: rows differ as named, and existing results are not measured again."""

import json
import sys

import numpy as np
import pytest
from mistakes import check_faults
from real_data import data_set

from benchmarks import maskmtl
from mtl_jax import experiment
from mtl_jax.config.resolve import resolve
from mtl_jax.data.records import Category
from mtl_jax.runs.folder import differing_fields
from mtl_jax.runs.setup import Setup

TINY = (
    "--config.stages=({'layers':'all','steps':2,'learning_rate':0.0},)",
    "--config.train.batch_size=4",
    "--config.eval.loss=False",
    "--config.eval.images=8",
    "--config.model.convs.features=(4,4,6,6,6)",
    "--config.model.head.features=(8,)",
)


def changed(row, worn="bare", seed=0):
    """Return the names of the fields in which a row differs from the non-local one."""
    base = maskmtl.row_config("non-local", "bare", 0)
    fields = differing_fields(base, maskmtl.row_config(row, worn, seed))
    return {field.split(" ")[0] for field in fields}


def test_rows_differ_only_in_the_fields_they_are_named_after():
    head = {"model.exits", "model.convs.non_local"}
    assert changed("non-local") == set()
    assert changed("hierarchical") == {"model.convs.non_local"}
    assert changed("hard") == head
    for row in ("single-task", "soft", "cross-stitch"):
        assert changed(row) == {*head, "model.sharing"}
    balanced = {"model.convs.non_local", "train.balance"}
    assert changed("hierarchical, mgda") == balanced
    assert changed("hierarchical, pareto") == balanced
    assert changed("non-local", seed=2) == {"train.seed"}
    assert changed("non-local", "masked") == {"data.augment.mask", "data.sources[0].masks"}
    for row in maskmtl.ROWS:
        config = maskmtl.row_config(row, "masked", 0)
        Setup.build(resolve(config), [Category(1, "face")])
        assert config.data.fractions == maskmtl.row_config("best", "bare", 0).data.fractions


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["maskmtl", *map(str, arguments)])
    maskmtl.main()


@pytest.mark.slow
def test_a_row_is_measured_once_and_shares_its_batches(tmp_path, monkeypatch, capsys):
    data_set("utkface_crop_part1")
    made = []
    train_batches = experiment.train_batches

    def count(*arguments):
        made.append(arguments)
        return train_batches(*arguments)

    monkeypatch.setattr(experiment, "train_batches", count)
    arguments = ("--workdir", tmp_path, "--worn", "bare", "--seeds", 1, *TINY)
    run(monkeypatch, *arguments, "--rows", "hard", "hierarchical")
    assert len(made) == 1
    result = json.loads((tmp_path / "hard_bare_1.json").read_text())
    assert result["test"]["gender/instances"] > 1000
    assert result["val"]["val/gender/instances"] == 8
    assert not (tmp_path / "hard_bare_1/checkpoints").exists()
    monkeypatch.setattr(experiment, "train", pytest.fail)
    capsys.readouterr()
    run(monkeypatch, *arguments, "--rows", "hard")
    accuracy = result["test"]["gender/accuracy"]
    size = f"{result['parameters'] / 1e6:.1f} M"
    minutes = f"{result['seconds'] / 60:.0f}"
    assert f"| hard | 1 | {size} | {minutes} | {accuracy:.3f} |" in capsys.readouterr().out


def test_a_tape_yields_the_batches_of_training_for_each_row(tmp_path):
    data_set("utkface_crop_part1")
    config = maskmtl.row_config("hard", "bare", 3, ("--config.train.batch_size=4",))
    training = experiment.open_data(resolve(config), "train", tmp_path)
    setup = Setup.build(resolve(config), training.categories)
    loop = setup.experiment.train
    tape = maskmtl.Tape()
    for start in (0, 1, 0):
        expected = experiment.train_batches(setup, training, loop, start)
        found = tape(setup, training, loop, start)
        for _ in range(2):
            np.testing.assert_array_equal(next(found).images, next(expected).images)


@pytest.mark.slow
def test_best_is_tested_on_the_faces_of_the_other_rows(tmp_path):
    data_set("utkface_crop_part1"), data_set("fairface")
    for split in ("val", "test"):
        names = []
        for row in ("hard", "best"):
            config = maskmtl.row_config(row, "bare", 0)
            (source,) = experiment.open_data(resolve(config), split, tmp_path / row).sources
            names.append([source[i].file_name for i in range(len(source))])
        assert len(names[0]) > 1000
        assert names[0] == names[1]


def test_the_table_contains_mean_and_deviation(tmp_path):
    for seed, accuracy in enumerate((0.8, 0.9)):
        test = dict.fromkeys(maskmtl.COLUMNS, 0.5) | {"gender/accuracy": accuracy, "age/mae": 6.0}
        result = {"row": "best", "worn": "masked", "parameters": 11_340_000, "test": test}
        result["seconds"] = 600 * (seed + 1)
        (tmp_path / f"best_masked_{seed}.json").write_text(json.dumps(result))
    lines = maskmtl.table(tmp_path).splitlines()
    heads = lines[0].strip("|").split("|")
    names = ("masked", "", "", "", "gender", "F1", "race", "F1", "age", "CS@5")
    check_faults(heads, *((name,) for name in names))
    deviation = np.std([0.8, 0.9], ddof=1)
    start = f"| best | 2 | 11.3 M | 15 | 0.850 ± {deviation:.3f} | 0.500 ± 0.000 |"
    assert lines[2].startswith(start)
    assert "| 6.00 ± 0.00 |" in lines[2]
