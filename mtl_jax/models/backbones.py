"""A ResNet as a config's `backbone` says."""

from jax.typing import DTypeLike

from mtl_jax.config.options.backbone import BackboneOptions
from mtl_jax.layers.resnet import ResNet


def make_resnet(
    options: BackboneOptions, train: bool, dtype: DTypeLike, name: str | None = None
) -> ResNet:
    """Build the feature extractor of a model; it computes in `dtype`."""
    return ResNet(
        options.depth,
        options.width,
        options.norm,
        options.norm_eps,
        options.stride_in_1x1,
        train=train,
        dtype=dtype,
        pool_same=options.pool_same,
        name=name,
    )
