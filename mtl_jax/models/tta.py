"""Test-time augmentation: a picture in other sizes, and mirrored; what is seen becomes one result.

Source: detectron2's GeneralizedRCNNWithTTA: the boxes of all views go through one NMS, the other
heads read what is left in every view, and their answers are averaged.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from mtl_jax.attributes.base import Attribute
from mtl_jax.config.options.evaluation import ViewOptions
from mtl_jax.config.options.mask_rcnn import DetectionOptions
from mtl_jax.images.geometry import Geometry
from mtl_jax.images.resize import zoom_canvas
from mtl_jax.models.mask_rcnn.proposals import Selected, best_boxes
from mtl_jax.types import Array, Batch


class View(NamedTuple):
    """The canvas at `scale` times its size, mirrored or not."""

    scale: float = 1.0
    mirrored: bool = False

    def look(self, batch: Batch) -> Batch:
        """Give a batch as this view shows it, its sizes in whole pixels; the ground truth stays."""
        if self == View():
            return batch
        canvas = batch.images.shape[1:3]
        sizes = jnp.maximum(jnp.round(batch.sizes * self.scale), 1)

        def show(image: Array, size: Float[Array, "2"], new: Float[Array, "2"]) -> Array:
            # Beyond the picture its last pixels go on, so that none there is mixed into its own.
            rows = jnp.minimum(jnp.arange(canvas[0]), size[0] - 1)
            columns = jnp.minimum(jnp.arange(canvas[1]), size[1] - 1)
            columns = size[1] - 1 - columns if self.mirrored else columns
            image = image[rows.astype(int)][:, columns.astype(int)]
            if self.scale == 1:
                return image
            shape = (*zoom_canvas(canvas, self.scale), image.shape[-1])
            image = image.astype(jnp.float32)
            return jax.image.scale_and_translate(
                image, shape, (0, 1), new / size, jnp.zeros(2), "linear"
            )

        return batch._replace(images=jax.vmap(show)(batch.images, batch.sizes, sizes), sizes=sizes)

    def boxes(
        self, boxes: Float[Array, "B D 4"], batch: Batch, seen: Batch
    ) -> Float[Array, "B D 4"]:
        """Carry boxes of `batch` over to `seen`, which is `look(batch)`."""
        boxes = boxes * _ratio(seen, batch)
        return _mirror(boxes, seen) if self.mirrored else boxes

    def boxes_back(
        self, boxes: Float[Array, "B D 4"], batch: Batch, seen: Batch
    ) -> Float[Array, "B D 4"]:
        """Carry boxes of `seen` over to `batch`: undo `boxes`."""
        boxes = _mirror(boxes, seen) if self.mirrored else boxes
        return boxes * _ratio(batch, seen)

    def masks_back(self, masks: Float[Array, "B D S S"]) -> Float[Array, "B D S S"]:
        """Undo the view's mirroring on cells of a box."""
        return masks[..., ::-1] if self.mirrored else masks

    def predictions_back(
        self, attribute: Attribute, predictions: Float[Array, "B D E"]
    ) -> Float[Array, "B D E"]:
        """Undo the view's mirroring on what `Head.decode` gives."""
        if not self.mirrored:
            return predictions
        # About the box's centre a mirror is linear in every kind: what it does to each unit vector
        # is all of it.
        units = np.eye(attribute.prediction_size, dtype=np.float32)
        return predictions @ attribute.move_prediction(units, Geometry(scale_x=-1.0))


def make_views(options: ViewOptions) -> tuple[View, ...]:
    """Give the views of a canvas that holds pictures at the largest of the scales."""
    largest = max(options.scales)
    return tuple(
        View(scale / largest, mirrored)
        for scale in options.scales
        for mirrored in (False, True)[: 1 + options.flip]
    )


def merge(found: Sequence[Selected], options: DetectionOptions) -> Selected:
    """Make one of what the views of a batch found, in the same coordinates."""
    if len(found) == 1:
        return found[0]
    together = Selected(*(jnp.concatenate(parts, axis=1) for parts in zip(*found, strict=True)))
    return jax.vmap(partial(best_boxes, options=options))(together)


def _ratio(a: Batch, b: Batch) -> Float[Array, "B 1 4"]:
    sizes = jnp.maximum(b.sizes, 1)  # of rows that only fill the batch up they may be 0
    return jnp.tile((a.sizes / sizes)[:, None, ::-1], 2)


def _mirror(boxes: Float[Array, "B D 4"], seen: Batch) -> Float[Array, "B D 4"]:
    x1, y1, x2, y2 = jnp.moveaxis(boxes, -1, 0)
    width = seen.sizes[:, 1:]
    return jnp.stack([width - x2, y1, width - x1, y2], -1)
