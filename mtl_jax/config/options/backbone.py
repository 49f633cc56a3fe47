"""Options of a backbone, and checks shared by the model families."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mtl_jax.config.options.base import Options, one_of

NORMS = ("frozen", "batch", "group", "none")
DEPTHS = (18, 34, 50, 101)
BACKBONES = ("resnet", "convnext_tiny")


@dataclass(frozen=True)
class BackboneOptions(Options):
    """Which backbone, and the options of a ResNet; a ConvNeXt has none."""

    name: str = "resnet"  # resnet or convnext_tiny
    depth: int = 50  # 18, 34, 50 or 101
    width: int = 64  # channels of the stem and of the first stage
    norm: str = "frozen"  # frozen, batch, group or none
    norm_eps: float = 1e-5
    stride_in_1x1: bool = False  # True: bottlenecks as in Caffe and matterport
    pool_same: bool = False  # True: the stem's pooling is padded at the end, as Keras's "same"


def norm_faults(part: str, norm: str) -> Iterator[str]:
    """Yield a fault if `norm`, the norm of `model.PART`, is unknown."""
    yield from one_of(f"model.{part}.norm", norm, NORMS)


def backbone_faults(part: str, backbone: BackboneOptions) -> Iterator[str]:
    """Yield the faults of a backbone that is `model.PART`."""
    yield from one_of(f"model.{part}.name", backbone.name, BACKBONES)
    yield from norm_faults(part, backbone.norm)
    if backbone.depth not in DEPTHS:
        known = ", ".join(map(str, DEPTHS))
        yield f"model.{part}.depth is {backbone.depth}; it must be one of {known}"


def dtype_faults(dtype: str, known: Sequence[str] = ("float32", "bfloat16")) -> Iterator[str]:
    """Yield a fault if a model's dtype is not one of `known`."""
    yield from one_of("model.dtype", dtype, known)
