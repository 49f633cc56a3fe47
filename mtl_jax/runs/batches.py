"""Training batches of an experiment: of whole images, or of regions."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from mtl_jax.config.options.training import LoopOptions
from mtl_jax.data.datasets import sources
from mtl_jax.data.datasets.regions import cut_regions
from mtl_jax.data.loader import pipeline
from mtl_jax.runs.setup import Setup
from mtl_jax.types import Batch

# (setup, sources, options, first step) -> batches
MakeBatches = Callable[[Setup, sources.Opened, LoopOptions, int], Iterator[Batch]]


def train_batches(
    setup: Setup, training: sources.Opened, loop: LoopOptions, start_step: int
) -> Iterator[Batch]:
    """Return the training batches from step `start_step` on."""
    return pipeline.train_batches(
        training.sources,
        training.weights,
        setup.attributes,
        setup.experiment.training_data,
        batch_size=loop.batch_size,
        seed=loop.seed,
        start_step=start_step,
    )


def as_regions(setup: Setup, opened: sources.Opened, folder: Path | None = None) -> sources.Opened:
    """Return regions of the images if `config.data.regions.proposals` is set, else the images.

    `folder` stores the proposals of selective search; without it, regions are jittered boxes.
    """
    options = setup.experiment.data.regions
    if not options.proposals:
        return opened
    if folder is None:
        options = replace(options, proposals="jitter")
    cut = cut_regions(opened.sources, setup.attributes, options, folder or Path())
    return opened._replace(sources=cut)
