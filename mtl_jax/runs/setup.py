"""Construction of an experiment's model for the classes of its data."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from mtl_jax.attributes.base import Attribute
from mtl_jax.config.options.hyperface import HyperFaceOptions
from mtl_jax.config.options.mask_mtl import MaskMTLOptions
from mtl_jax.config.options.mask_rcnn import MaskRCNNOptions
from mtl_jax.config.resolve import Experiment, from_stored
from mtl_jax.data.records import Category
from mtl_jax.errors import UserError
from mtl_jax.models.hyperface.network import hyperface
from mtl_jax.models.mask_mtl.network import mask_mtl
from mtl_jax.models.mask_rcnn.network import mask_rcnn
from mtl_jax.models.tta import make_views
from mtl_jax.types import Model


@dataclass(frozen=True)
class Setup:
    """An experiment, the classes of its data and its model."""

    experiment: Experiment
    categories: tuple[Category, ...]
    model: Model

    @classmethod
    def build(cls, experiment: Experiment, categories: Sequence[Category]) -> "Setup":
        """Build the model. Raises UserError if the options are not supported."""
        return cls(experiment, tuple(categories), build_model(experiment, len(categories)))

    @classmethod
    def from_metadata(
        cls,
        stored: Mapping[str, Any],
        overrides: Sequence[str] = (),
        where: str = "the model",
        trust: bool = False,
    ) -> "Setup":
        """Build the model of a checkpoint's metadata; it predicts in the views of `config.eval`.

        Without `trust`, its data is opened with restrictions, as `from_stored` explains. Raises
        UserError that names `where` if the metadata is invalid.
        """
        with _metadata_errors(where):
            experiment = from_stored(stored["config"], overrides, trust)
            categories = [Category(**category) for category in stored["categories"]]
            if not all(type(c.id) is int and isinstance(c.name, str) for c in categories):
                raise ValueError("each category must have an id and a name")
            return cls.build(experiment.in_views(), categories)

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        return self.experiment.attributes

    @property
    def metadata(self) -> dict[str, Any]:
        """The metadata of a checkpoint, as read by `from_metadata`."""
        categories = [category._asdict() for category in self.categories]
        return {"config": self.experiment.config, "categories": categories}

    def changed_outputs(self, stored: Mapping[str, Any]) -> list[str]:
        """Return patterns of the output layers whose meaning differs from a checkpoint's metadata.

        The shapes can be equal: the same number of other classes, or another range of an age.
        Raises UserError if the metadata is invalid.
        """
        patterns = []
        with _metadata_errors("the checkpoint"):
            classes = stored["categories"]
            declared = {a.name: a for a in from_stored(stored["config"]).attributes}
        if classes != self.metadata["categories"] and self.experiment.has_boxes:
            patterns.append(r"/(class_logits|box_deltas)/")
            if self.experiment.has_masks:
                patterns.append("/mask_logits")
        for attribute in self.attributes:
            there = declared.get(attribute.name)
            if there is None or replace(there, weight=attribute.weight) != attribute:
                name = re.escape(attribute.name)
                patterns.append(f"/((visible_)?{name}_output|dense_head_{name}/deconv)/")
        return patterns

    def changed_computation(self, stored: Mapping[str, Any]) -> list[str]:
        """Return the fields, as `--config.FIELD=VALUE`, with which a checkpoint's network computes
        other values from the same weights. Raises UserError if the metadata is invalid.
        """
        with _metadata_errors("the checkpoint"):
            theirs = from_stored(stored["config"]).model
        ours = self.experiment.model
        if not isinstance(ours, MaskRCNNOptions) or not isinstance(theirs, MaskRCNNOptions):
            return []
        values = {
            "backbone.norm_eps": (theirs.backbone.norm_eps, ours.backbone.norm_eps),
            "roi.aligned": (theirs.roi.aligned, ours.roi.aligned),
            "mask_head.exact": (theirs.mask_head.exact, ours.mask_head.exact),
        }
        return [f"--config.model.{name}={was}" for name, (was, now) in values.items() if was != now]


@contextmanager
def _metadata_errors(where: str) -> Iterator[None]:
    """Raise UserError that names `where` for any error of metadata, which a stranger may write."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # a value of any type, in any place
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(f"{where}: its metadata is invalid ({reason})") from None


def build_model(experiment: Experiment, classes: int) -> Model:
    """Build the model for `classes` classes without background.

    Raises UserError if the options do not support the attributes.
    """
    options, attributes = experiment.model, experiment.attributes
    views = make_views(experiment.views)
    try:
        if isinstance(options, HyperFaceOptions):
            return hyperface(options, classes + 1, attributes)
        if isinstance(options, MaskMTLOptions):
            return mask_mtl(options, attributes, views)
        whole = experiment.data.mask_size == 0
        return mask_rcnn(options, classes + 1, attributes, whole, views)
    except ValueError as error:
        raise UserError(str(error)) from None
