"""The objects that a config's data teaches: counted, shown and checked before training."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from mtl_jax.config.resolve import Experiment
from mtl_jax.data.datasets.blocks import merge_short
from mtl_jax.data.datasets.sources import Opened
from mtl_jax.data.loader import object_counts
from mtl_jax.data.loader.object_counts import ObjectCounts
from mtl_jax.errors import UserError

_log = logging.getLogger(__name__)
_CVAT = "CVAT exports brush masks so: crowd='objects' in the source's block reads them as objects"


@dataclass(frozen=True)
class Objects:
    """The objects of splits train and val, and what is wrong with them."""

    train: ObjectCounts
    val: ObjectCounts
    warnings: tuple[str, ...]
    faults: tuple[str, ...]  # reasons not to train


def count_splits(opened: Mapping[str, Opened], experiment: Experiment) -> Objects | None:
    """Count the objects of splits train and val; return None if all data is drawn.

    Sources of weight 0 are not trained on.
    """
    training, validation = opened["train"], opened["val"]
    if all(source.is_drawn for source in (*training.sources, *validation.sources)):
        return None
    pairs = zip(training.sources, training.weights, strict=True)
    names = [category.name for category in training.categories]
    train, val = (
        object_counts.count_objects(sources, names, experiment.data)
        for sources in ([source for source, weight in pairs if weight], validation.sources)
    )
    formats = {block["format"] for block in merge_short(experiment.sources)}
    return Objects(
        train,
        val,
        tuple(object_counts.warnings(train, val, has_val=bool(validation.sources))),
        tuple(object_counts.faults(train, val, _CVAT if "coco" in formats else "")),
    )


def report_objects(opened: Mapping[str, Opened], experiment: Experiment) -> None:
    """Print the objects of each class that a new run uses, ignores and loses, and log warnings.

    Reads all records. Raises UserError if there are annotated objects, but none that can be
    learned, or none of a class.
    """
    objects = count_splits(opened, experiment)
    if objects is None:
        return
    print(object_counts.format_table(objects.train, objects.val))
    if objects.faults:
        raise UserError("\n".join(objects.faults))
    for warning in objects.warnings:
        _log.warning("%s", warning)
