"""A model and one image: its input, its intermediate values, its detections, and drawn boxes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from mtl_jax.config.options.mask_rcnn import MaskRCNNOptions
from mtl_jax.data.loader import transforms
from mtl_jax.data.pixels import read_pixels
from mtl_jax.data.records import Record
from mtl_jax.models.mask_rcnn.inspection import Inside, inspector
from mtl_jax.ops import boxes as box_ops
from mtl_jax.results import Result
from mtl_jax.runs.loading import Run, load_run
from mtl_jax.types import Batch, Inputs
from mtl_jax.visualize.drawing.annotations import crop_padding, row_pixels
from mtl_jax.visualize.drawing.palette import GREEN, Color
from mtl_jax.visualize.drawing.sheets import rectangle
from mtl_jax.visualize.named_record import named_record

SIDE = 480  # pixels; smaller images are enlarged to about this, so that boxes stay distinct


@dataclass(frozen=True)
class Inspection:
    """A model and one image. `known`: whether the image's annotations are available."""

    run: Run
    record: Record
    known: bool
    seed: int = 0

    @classmethod
    def from_run(
        cls,
        workdir: Path,
        name: str,
        step: str | int = "best",
        overrides: Sequence[str] = (),
        seed: int = 0,
        *,
        trust: bool = False,
    ) -> "Inspection":
        """Load the model of a run folder and an image: a file, or SPLIT:NUMBER of the run's data.

        `trust` is that of `load_run`; without it, an image file of data that must not be opened has
        no annotations. Raises UserError if the model is not of the family mask_rcnn or either
        cannot be loaded.
        """
        run = load_run(workdir, step, overrides, trust=trust)
        run.setup.experiment.mask_rcnn(f"{workdir}: the model page")
        record, known = named_record(run, workdir, name)
        return cls(run, record, known, seed)

    @cached_property
    def options(self) -> MaskRCNNOptions:
        return self.run.setup.experiment.mask_rcnn("the model page")

    @cached_property
    def row(self) -> Batch:
        """The image as evaluation loads it, a batch without its leading axis."""
        return transforms.load(self.record, 0, self.run.attributes, self.run.setup.experiment.data)

    @cached_property
    def inputs(self) -> Inputs:
        return jax.tree.map(lambda x: np.asarray(x)[None], self.row.inputs)

    @property
    def full_size_masks(self) -> bool:
        return self.run.setup.experiment.data.mask_size == 0

    @cached_property
    def inside(self) -> Inside:
        classes = len(self.run.categories) + 1
        inspect = inspector(self.options, classes, self.run.attributes)
        found = inspect(self.run.variables, self.inputs)
        return Inside(jax.tree.map(lambda x: x[0], found.steps), found.activations)

    @cached_property
    def pixels(self) -> np.ndarray:
        """The network's input without padding, RGB uint8."""
        return crop_padding(self.row, row_pixels(self.row))

    @cached_property
    def result(self) -> Result:
        """The detections, in pixels of the original image."""
        detections = self.run.predict(self.inputs)
        _, geometry = transforms.fit(self.record, self.run.resize)
        return Result.from_detections(
            detections,
            0,
            geometry,
            self.record.height,
            self.record.width,
            categories=self.run.categories,
            declared=self.run.attributes,
            exact_masks=self.run.exact_masks,
            image=read_pixels(self.record, self.run.channels),
        )

    @property
    def names(self) -> list[str]:
        return ["background", *(category.name for category in self.run.categories)]

    @cached_property
    def parameters(self) -> Mapping[str, np.ndarray]:
        flat: dict[str, Any] = flatten_dict(self.run.variables["params"], sep="/")
        return jax.device_get(flat)

    def decode(self, deltas: np.ndarray, boxes: np.ndarray, weights: Sequence[float]) -> np.ndarray:
        return np.asarray(box_ops.decode(deltas, boxes, tuple(weights)))

    def clip(self, boxes: np.ndarray) -> np.ndarray:
        return np.asarray(box_ops.clip(boxes, self.row.sizes[0], self.row.sizes[1]))

    def draw(
        self, boxes: np.ndarray, colors: Sequence[Color] | Color = GREEN, dotted: bool = False
    ) -> np.ndarray:
        """Return the `enlarged` image with boxes drawn on it, the first box on top."""
        image = self.enlarged()
        for i in range(len(boxes))[::-1]:
            color = colors if isinstance(colors[0], int) else colors[i]
            self.add_box(image, boxes[i], color, 1, dotted)  # pyright: ignore[reportArgumentType]
        return image

    def enlarged(self) -> np.ndarray:
        """Return a copy of `pixels` to draw on with `add_box`, enlarged if it is small."""
        return self.pixels.repeat(self._zoom, 0).repeat(self._zoom, 1)

    def add_box(
        self, image: np.ndarray, box: np.ndarray, color: Color, stroke: int, dotted: bool = False
    ) -> None:
        """Draw a box, in pixels of the network's input, on an `enlarged` image."""
        stroke *= max(1, self._zoom // 2)
        rectangle(image, self._zoom * np.asarray(box), color, stroke, dotted)

    @property
    def _zoom(self) -> int:
        return max(1, SIDE // max(self.pixels.shape[:2]))
