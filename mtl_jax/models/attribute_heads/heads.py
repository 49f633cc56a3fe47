"""Heads by the kind and loss of an attribute."""

from typing import Any

from mtl_jax.attributes.base import Attribute
from mtl_jax.attributes.categorical import Categorical
from mtl_jax.attributes.continuous import Continuous
from mtl_jax.attributes.landmarks import Landmarks
from mtl_jax.attributes.ordinal import Ordinal
from mtl_jax.attributes.pose import Pose
from mtl_jax.models.attribute_heads.base import Head
from mtl_jax.models.attribute_heads.categorical import CategoricalHead
from mtl_jax.models.attribute_heads.continuous import ContinuousHead
from mtl_jax.models.attribute_heads.heatmap import HeatmapHead
from mtl_jax.models.attribute_heads.landmarks import LandmarksHead
from mtl_jax.models.attribute_heads.ordinal import OrdinalHead
from mtl_jax.models.attribute_heads.pose import PoseHead

HEADS: dict[type[Attribute], type[Head[Any]]] = {
    Categorical: CategoricalHead,
    Ordinal: OrdinalHead,
    Continuous: ContinuousHead,
    Pose: PoseHead,
    Landmarks: LandmarksHead,
}
# Heads with layers of their own, by kind and loss.
DENSE_HEADS: dict[tuple[type[Attribute], str], type[Head[Any]]] = {
    (Landmarks, "heatmap"): HeatmapHead,
}


def head_of(attribute: Attribute) -> Head[Any]:
    """Return the head of an attribute's kind and loss."""
    kind = type(attribute)
    return DENSE_HEADS.get((kind, attribute.loss), HEADS[kind])(attribute)
