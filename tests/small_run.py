"""The small run used by tests of the scripts, and functions that read a run."""

import json

import jax
import numpy as np
import scripts

from mtl_jax.training.checkpoint import Checkpointer

CONFIG = str(scripts.ROOT / "configs/mtl_synthetic.py:tiny")
# All random options are on. With a constant schedule, the program is the same for any number of
# steps.
ARGUMENTS = (
    "--config.model.attribute_head.dropout=0.3",
    "--config.data.augment.brightness=0.5",
    "--config.data.augment.scale=(0.8,1.3)",
    "--config.data.augment.rain=0.5",
    "--config.data.sources[0].length=10",
    "--config.data.sources[1].length=4",
    "--config.data.sources[2].length=9",
    "--config.optimizer.schedule=constant",
    "--config.stages[0].steps=2",
    "--config.stages[1].steps=3",
    "--config.train.batch_size=3",
    "--config.train.log_every=1",
    "--config.train.eval_every=2",
    "--config.train.checkpoint_every=3",
    "--config.eval.batch_size=3",
)


def lines(run):
    """Return the lines of a run's metrics.jsonl without the speed."""
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for line in found:
        line.pop("train/images_per_second", None)
    return found


def variables(run, step="latest"):
    tree = Checkpointer(run / "checkpoints").restore_variables(step)
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
