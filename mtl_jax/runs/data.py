"""The data of a run."""

from collections.abc import Sequence
from pathlib import Path

from mtl_jax.config.resolve import Experiment
from mtl_jax.data.datasets import sources
from mtl_jax.data.records import Category


def open_data(
    experiment: Experiment, split: str, workdir: Path, categories: Sequence[Category] = ()
) -> sources.Opened:
    """Open a split of an experiment's data, with the split assignment of the run in `workdir`."""
    return sources.open_split(
        experiment.sources,
        experiment.attributes,
        split,
        workdir / "splits.json",
        categories=categories,
    )
