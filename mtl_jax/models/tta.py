"""Test-time augmentation: an image predicted in several sizes and mirrored, merged to one result.

Source: detectron2's GeneralizedRCNNWithTTA. The boxes of all views are merged by one NMS. Masks and
attributes of the merged boxes are predicted in every view and averaged.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from mtl_jax.attributes.base import Attribute
from mtl_jax.config.options.evaluation import ViewOptions
from mtl_jax.config.options.mask_rcnn import DetectionOptions
from mtl_jax.images.geometry import Geometry
from mtl_jax.images.resize import zoom_canvas
from mtl_jax.models.attribute_heads.heads import head_of
from mtl_jax.models.mask_rcnn.proposals import Selected, best_boxes
from mtl_jax.types import Array, Inputs

Features = TypeVar("Features")


class Described(NamedTuple):
    """Masks and attributes of boxes, as predicted by a model."""

    masks: Float[Array, "B D S S"] | None  # probability on the cells of each box
    attributes: Mapping[str, Float[Array, "B D E"]]  # from `Head.decode`


class View(NamedTuple):
    """The padded image at `scale` times its size, mirrored or not."""

    scale: float = 1.0
    mirrored: bool = False

    def show(self, inputs: Inputs) -> Inputs:
        """Return the images of this view; their sizes are rounded to whole pixels."""
        if self == View():
            return inputs
        padded = inputs.images.shape[1:3]
        sizes = jnp.maximum(jnp.round(inputs.sizes * self.scale), 1)

        def show(image: Array, size: Float[Array, "2"], new: Float[Array, "2"]) -> Array:
            # Pad with the image's last pixels, so that resizing does not mix in zeros.
            rows = jnp.minimum(jnp.arange(padded[0]), size[0] - 1)
            columns = jnp.minimum(jnp.arange(padded[1]), size[1] - 1)
            columns = size[1] - 1 - columns if self.mirrored else columns
            image = image[rows.astype(int)][:, columns.astype(int)]
            if self.scale == 1:
                return image
            shape = (*zoom_canvas(padded, self.scale), image.shape[-1])
            image = image.astype(jnp.float32)
            return jax.image.scale_and_translate(
                image, shape, (0, 1), new / size, jnp.zeros(2), "linear"
            )

        images = jax.vmap(show)(inputs.images, inputs.sizes, sizes)
        return inputs._replace(images=images, sizes=sizes)

    def boxes(
        self, boxes: Float[Array, "B D 4"], inputs: Inputs, shown: Inputs
    ) -> Float[Array, "B D 4"]:
        """Return boxes of `inputs` in pixels of `shown`, which is `show(inputs)`."""
        boxes = boxes * _ratio(shown, inputs)
        return _mirror(boxes, shown) if self.mirrored else boxes

    def boxes_back(
        self, boxes: Float[Array, "B D 4"], inputs: Inputs, shown: Inputs
    ) -> Float[Array, "B D 4"]:
        """Return boxes of `shown` in pixels of `inputs`: the inverse of `boxes`."""
        boxes = _mirror(boxes, shown) if self.mirrored else boxes
        return boxes * _ratio(inputs, shown)

    def described_back(self, described: Described, attributes: Sequence[Attribute]) -> Described:
        """Mirror back the masks and attributes of this view's boxes if the view is mirrored."""
        if not self.mirrored:
            return described
        masks, found = described
        back = {a.name: _mirror_predictions(a, found[a.name]) for a in attributes}
        return Described(None if masks is None else masks[..., ::-1], back)


def make_views(options: ViewOptions) -> tuple[View, ...]:
    """Build the views of images that have been resized to the largest of the scales."""
    largest = max(options.scales)
    return tuple(
        View(scale / largest, mirrored)
        for scale in options.scales
        for mirrored in (False, True)[: 1 + options.flip]
    )


def detect_in_views(
    views: Sequence[View],
    inputs: Inputs,
    find: Callable[[Inputs], tuple[Features, Selected]],
    describe: Callable[
        [Features, Float[Array, "B D 4"], Int[Array, "B D"], Bool[Array, "B D"]], Described
    ],
    merge: Callable[[Sequence[Selected]], Selected],
    attributes: Sequence[Attribute],
) -> tuple[Selected, Described]:
    """Find boxes in every view, `merge` them, and average their masks and attributes over views.

    `find(inputs)` returns features and boxes, `describe(features, boxes, classes, valid)` the masks
    and attributes of boxes; both use pixels of the view.
    """
    shown = [view.show(inputs) for view in views]
    found = [find(each) for each in shown]
    selected = merge(
        [
            boxes._replace(boxes=view.boxes_back(boxes.boxes, inputs, each))
            for view, each, (_, boxes) in zip(views, shown, found, strict=True)
        ]
    )
    selected = selected._replace(valid=selected.valid & inputs.valid[:, None])
    described = []
    for view, each, (features, _) in zip(views, shown, found, strict=True):
        boxes = view.boxes(selected.boxes, inputs, each)
        own = describe(features, boxes, selected.classes, selected.valid)
        described.append(view.described_back(own, attributes))
    masks = jax.tree.map(lambda *m: sum(m) / len(m), *(each.masks for each in described))
    means = {
        a.name: head_of(a).mean([each.attributes[a.name] for each in described]) for a in attributes
    }
    return selected, Described(masks, means)


def merge_by_nms(found: Sequence[Selected], options: DetectionOptions) -> Selected:
    """Merge the boxes found in all views of a batch, which have the same coordinates."""
    if len(found) == 1:
        return found[0]
    together = Selected(*(jnp.concatenate(parts, axis=1) for parts in zip(*found, strict=True)))
    return jax.vmap(partial(best_boxes, options=options))(together)


def _ratio(a: Inputs, b: Inputs) -> Float[Array, "B 1 4"]:
    sizes = jnp.maximum(b.sizes, 1)  # may be 0 in rows that only fill the batch
    return jnp.tile((a.sizes / sizes)[:, None, ::-1], 2)


def _mirror(boxes: Float[Array, "B D 4"], shown: Inputs) -> Float[Array, "B D 4"]:
    x1, y1, x2, y2 = jnp.moveaxis(boxes, -1, 0)
    width = shown.sizes[:, 1:]
    return jnp.stack([width - x2, y1, width - x1, y2], -1)


def _mirror_predictions(
    attribute: Attribute, predictions: Float[Array, "B D E"]
) -> Float[Array, "B D E"]:
    # Mirroring about the box's centre is linear for every kind; its matrix consists of the mirrored
    # unit vectors.
    units = np.eye(attribute.prediction_size, dtype=np.float32)
    return predictions @ attribute.move_prediction(units, Geometry(scale_x=-1.0))
