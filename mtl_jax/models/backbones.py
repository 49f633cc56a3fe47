"""Backbones by name.

A backbone is a module that maps images `[B, H, W, C]` and a mask of the pixels inside them
`[B, H, W]` to feature maps, from fine to coarse, which are 0 outside the mask. Its class has the
maps' `strides` in pixels. Its parts are named stem, stage2, stage3, ..., so that training stages
can select them.
"""

from jax.typing import DTypeLike

from mtl_jax.config.options.backbone import BackboneOptions
from mtl_jax.layers.convnext import ConvNeXtTiny
from mtl_jax.layers.resnet import ResNet

Backbone = ResNet | ConvNeXtTiny


def make_backbone(
    options: BackboneOptions, train: bool, dtype: DTypeLike, name: str | None = None
) -> Backbone:
    """Build the backbone of a model, which computes in `dtype`."""
    if options.name == "convnext_tiny":
        return ConvNeXtTiny(train=train, dtype=dtype, name=name)
    return ResNet(
        depth=options.depth,
        width=options.width,
        norm=options.norm,
        norm_eps=options.norm_eps,
        stride_in_1x1=options.stride_in_1x1,
        pool_same=options.pool_same,
        train=train,
        dtype=dtype,
        name=name,
    )


def pyramid_strides(backbone: Backbone) -> tuple[int, ...]:
    """Return the strides of a backbone's feature pyramid: its maps' and twice the last one."""
    return (*backbone.strides, 2 * backbone.strides[-1])
