"""Where the annotated box lies about the template of a face's landmarks: a running mean.

Every data set draws its boxes differently, from brows to chin or with all of the hair; detection
turns landmarks into the boxes of the data that it was trained on.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from mtl_jax.attributes import Landmarks
from mtl_jax.models.hyperface_options import HyperFaceOptions
from mtl_jax.ops.face_box import find_rectangle, fit_similarity
from mtl_jax.ops.landmark_nms import median
from mtl_jax.types import Array, Batch, Variables

NAME = "face_rectangle"  # in batch_stats: its rectangle [4], as `ops.face_box` has it
MOMENTUM = 0.98
MARGIN = 1.0  # pixels from a region's border within which a box may have been cut


def first_rectangle(options: HyperFaceOptions) -> Variables:
    """Give the statistics of a new model: the template's own box, and what is above the brows."""
    low, high = np.min(options.template, 0), np.max(options.template, 0)
    low = low - np.array([0.0, 0.25]) * (high - low)
    return {NAME: {"rectangle": jnp.asarray(np.r_[(low + high) / 2, high - low], jnp.float32)}}


def rectangle_of(variables: Variables) -> Float[Array, "4"]:
    return variables["batch_stats"][NAME]["rectangle"]


def follow(
    stats: Variables, attribute: Landmarks, batch: Batch, options: HyperFaceOptions
) -> Variables:
    """Move the mean towards what a batch of regions shows: faces whose box is wholly within."""
    values, known = (x[:, 0] for x in batch.gt.attributes[attribute.name])
    rows = (len(values), len(attribute.points), 3)
    points, known = values.reshape(rows)[..., :2], known.reshape(rows)[..., 0]
    boxes = batch.gt.boxes[:, 0]
    inside = (boxes >= MARGIN).all(-1) & (boxes <= options.input_size - MARGIN).all(-1)
    counted = batch.valid & batch.gt.valid[:, 0] & inside
    counted &= known.sum(1) >= options.detection.min_visible
    similarity = fit_similarity(
        jnp.asarray(options.template, jnp.float32),
        jnp.where(known[..., None], points, 0.0),
        known.astype(jnp.float32),
    )
    each = find_rectangle(similarity, boxes)
    # A few points of a profile may say any scale, which a mean would follow.
    middle = median(each[None], counted[None])[0]
    old = stats[NAME]["rectangle"]
    moved = MOMENTUM * old + (1 - MOMENTUM) * middle
    return {NAME: {"rectangle": jnp.where(counted.any(), moved, old)}}
